"""Commits: exactly the next version or none, validated whole."""

import json
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from pipelines.stage.config import Config
from pipelines.storage import Invocation, Lineage, Tables, TableVersion, VersionMoved, commit, new_version, replace_rows
from pipelines.storage.commits import IngestedFile, IntakeResult
from pipelines.storage.writing import InvalidRows
from schemas import CuratedTriplets, Evaluations, Triplets
from tests.rows import frame_of

LINEAGE = Lineage("ingest", [], Config())


def test_history_never_expires(append, tables):
    append(tables, 0, 1)

    configuration = DeltaTable(tables.path("triplets")).metadata().configuration
    assert configuration["delta.enableExpiredLogCleanup"] == "false"
    assert configuration["delta.logRetentionDuration"] == "interval 36500 days"
    assert configuration["delta.dataSkippingStatsColumns"] == "triplet_id,query_id"


def test_a_commit_against_an_older_version_is_refused_and_leaves_no_file(append, tables):
    base = append(tables, 0, 1)
    append(tables, 1, 1)
    files = set(Path(tables.path("triplets")).glob("*.parquet"))

    with pytest.raises(VersionMoved):
        append(tables, 2, 1, expected=base)

    assert tables.latest("triplets").version == 1
    assert set(Path(tables.path("triplets")).glob("*.parquet")) == files


def test_an_interrupt_just_after_the_commit_leaves_the_version_whole(append, tables, monkeypatch):
    def commit_then_interrupt(*arguments: object, **options: object) -> None:
        commit(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.storage.writing.commit", commit_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        append(tables, 0, 3)

    assert len(tables.latest("triplets").scan().collect()) == 3


def test_only_one_of_two_creates_the_table(append, tables):
    append(tables, 0, 1, expected=None)

    with pytest.raises(VersionMoved):
        append(tables, 1, 1, expected=None)
    assert tables.latest("triplets").num_rows() == 1


def test_all_failures_of_a_block_are_told_at_once_and_nothing_is_written(tables):
    bad = frame_of(Triplets, {}, {}, query_id="x", source_row=0)

    def write_a_good_and_a_bad_block() -> None:
        with new_version(tables, Triplets, LINEAGE) as writer:
            writer.write(frame_of(Triplets))
            writer.write(bad)

    with pytest.raises(InvalidRows, match=r"query_id: str_matches.*\(2, e\.g\. x\); source_row: greater_than.*\(2"):
        write_a_good_and_a_bad_block()

    assert tables.latest("triplets") is None
    assert list(Path(tables.path("triplets")).glob("*.parquet")) == []


def test_a_curation_with_nothing_left_is_an_empty_version(tables):
    with new_version(tables, CuratedTriplets, LINEAGE, mode="overwrite") as writer:
        writer.write(pl.DataFrame(schema=CuratedTriplets.polars_schema()))

    assert writer.version.scan().collect().shape == (0, len(CuratedTriplets.polars_schema()))


def test_a_commit_without_rows_is_a_version_of_its_own(append, tables):
    result = IntakeResult(ingested_files=(IngestedFile(path="a.csv"),))
    version = append(tables, 0, 2)

    record = LINEAGE.commit(Invocation(), result)
    completed = commit(tables, Triplets, [], record, mode="append", expected=version)

    assert completed.commit.result == result
    assert completed.num_rows() == 2


@pytest.mark.parametrize("root", ["tables", "a[1]^|"])
def test_replaced_rows_take_the_place_of_those_with_the_same_values(tmp_path, root):
    tables = Tables.at(str(tmp_path / root))

    def replace(*values: tuple[str, str, float]) -> TableVersion:
        columns = ("model_id", "query_id", "value")
        rows = frame_of(Evaluations, *(dict(zip(columns, row, strict=True)) for row in values))
        return replace_rows(tables, Evaluations, rows, ["model_id"], LINEAGE)

    replace(("a", "1", 0.1), ("a", "2", 0.2))
    replace(("b", "1", 0.3))
    newest = replace(("a", "1", 0.9))

    kept = newest.scan().select("model_id", "query_id", "value").sort("model_id").collect().rows()
    assert kept == [("a", "1", 0.9), ("b", "1", 0.3)]
    assert (newest.version, newest.commit.stage) == (2, "ingest")


@pytest.mark.parametrize("name", ["it's", "' OR ''='", 'a "quote" and a \\', "100%_of {them}", "文"])
def test_replaced_rows_are_told_by_their_values_whatever_stands_in_them(tables, name):
    for model, value in (("other", 0.1), (name, 0.2), (name, 0.3)):
        rows = frame_of(Evaluations, model_id=model, value=value)
        newest = replace_rows(tables, Evaluations, rows, ["model_id", "data_set"], LINEAGE)

    assert dict(newest.scan().select("model_id", "value").collect().iter_rows()) == {"other": 0.1, name: 0.3}
    assert newest.num_rows() == 2


def test_credentials_stay_out_of_the_log(append, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-write-me")

    append(Tables.at(str(tmp_path)), 0, 1)

    log = Path(tmp_path, "triplets", "_delta_log", f"{0:020}.json").read_text()
    assert json.loads(log.splitlines()[0])["commitInfo"]
    assert "do-not-write-me" not in log
