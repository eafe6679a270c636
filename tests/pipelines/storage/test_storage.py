"""Versions: exactly the next one or none, readable for ever, validated, with their lineage."""

import json
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import (
    Invocation,
    Lineage,
    Tables,
    TableVersion,
    VersionMoved,
    commit,
    new_version,
    replace_rows,
)
from pipelines.storage.commits import IngestedFile, IntakeResult
from pipelines.storage.tables import bucket_ranges
from pipelines.storage.writing import InvalidRows
from schemas import TABLES, CuratedTriplets, Evaluations, Triplets
from tests.scored_versions import scored_rows


class Settings(Config):
    size: int = 1


LINEAGE = Lineage("ingest", [], Settings())


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables.at(str(tmp_path / "tables"))


def triplets(first: int, count: int) -> pl.DataFrame:
    """`count` triplets of as many queries, sorted by query."""
    rows = scored_rows(
        [(f"query {n}", f"positive {n}", 1.0, f"negative {n}", 0.0) for n in range(first, first + count)]
    )
    return rows.select(Triplets.polars_schema().keys()).sort("query_id")


def append(tables: Tables, first: int, count: int, **options: object) -> TableVersion:
    with new_version(tables, Triplets, LINEAGE, **options) as writer:
        writer.write(triplets(first, count))
    return writer.version


def test_an_old_version_keeps_its_rows(tables):
    before = append(tables, 0, 3)
    after = append(tables, 3, 2)

    assert (str(before), str(after)) == ("triplets@0", "triplets@1")
    assert [len(version.scan().collect()) for version in (before, after)] == [3, 5]


def test_history_never_expires(tables):
    append(tables, 0, 1)

    configuration = DeltaTable(tables.path("triplets")).metadata().configuration
    assert configuration["delta.enableExpiredLogCleanup"] == "false"
    assert configuration["delta.logRetentionDuration"] == "interval 36500 days"
    assert configuration["delta.dataSkippingStatsColumns"] == "triplet_id,query_id"


def test_a_commit_against_an_older_version_is_refused_and_leaves_no_file(tables):
    base = append(tables, 0, 1)
    append(tables, 1, 1)
    files = set(Path(tables.path("triplets")).glob("*.parquet"))

    with pytest.raises(VersionMoved):
        append(tables, 2, 1, expected=base)

    assert tables.latest("triplets").version == 1
    assert set(Path(tables.path("triplets")).glob("*.parquet")) == files


def test_an_interrupt_just_after_the_commit_leaves_the_version_whole(tables, monkeypatch):
    def commit_then_interrupt(*arguments: object, **options: object) -> None:
        commit(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.storage.writing.commit", commit_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        append(tables, 0, 3)

    assert len(tables.latest("triplets").scan().collect()) == 3


def test_only_one_of_two_creates_the_table(tables):
    append(tables, 0, 1, expected="absent")

    with pytest.raises(VersionMoved):
        append(tables, 1, 1, expected="absent")
    assert tables.latest("triplets").num_rows() == 1


def test_all_failures_of_a_block_are_told_at_once_and_nothing_is_written(tables):
    bad = triplets(0, 2).with_columns(query_id=pl.lit("x"), source_row=pl.lit(0, pl.Int64))

    def write_a_good_and_a_bad_block() -> None:
        with new_version(tables, Triplets, LINEAGE) as writer:
            writer.write(triplets(5, 1))
            writer.write(bad)

    with pytest.raises(InvalidRows, match=r"query_id: str_matches.*\(2, e\.g\. x\); source_row: greater_than.*\(2"):
        write_a_good_and_a_bad_block()

    assert tables.latest("triplets") is None
    assert list(Path(tables.path("triplets")).glob("*.parquet")) == []


def test_a_curation_with_nothing_left_is_an_empty_version(tables):
    with new_version(tables, CuratedTriplets, LINEAGE, mode="overwrite") as writer:
        writer.write(pl.DataFrame(schema=CuratedTriplets.polars_schema()))

    assert writer.version.scan().collect().shape == (0, len(CuratedTriplets.polars_schema()))


def test_ranges_hold_whole_queries_and_together_every_row_once(tables):
    append(tables, 0, 40)
    version = append(tables, 40, 60)

    frames = list(version.read_by_query_range(max_rows=15))

    assert max(map(len, frames)) <= 15
    assert pl.concat(frames)["triplet_id"].sort().to_list() == triplets(0, 100)["triplet_id"].sort().to_list()
    upper = ""
    for frame in frames:
        assert frame["query_id"].min() > upper
        upper = frame["query_id"].max()


def test_buckets_are_grouped_up_to_the_limit_and_a_large_one_stands_alone():
    ranges = bucket_ranges(["000", "001", "7ff", "fff"], [4, 5, 30, 2], 10)

    assert ranges == [("000", "002"), ("7ff", "800"), ("fff", "g")]


def test_a_commit_says_where_it_came_from(tables):
    first = append(tables, 0, 1)
    with new_version(tables, Triplets, Lineage("mine", [first], Settings(size=3), note="why")) as writer:
        writer.write(triplets(1, 1))
        writer.result = IntakeResult(ingested_files=(IngestedFile(path="a.csv", rows=1),))

    commit = writer.version.commit
    assert [one.model_dump() for one in commit.inputs] == [first.identity()]
    assert (commit.stage, commit.config, commit.note) == ("mine", {"size": 3}, "why")
    assert commit.reports(IntakeResult) == writer.result
    assert commit.engine.libraries["deltalake"]
    assert commit.code.sources_digest


def test_a_root_made_anew_is_another_table(tmp_path):
    identities = []
    for name in ("one", "two"):
        identities.append(append(Tables.at(str(tmp_path / name)), 0, 2).identity())

    assert identities[0]["version"] == identities[1]["version"]
    assert identities[0]["table_id"] != identities[1]["table_id"]
    assert identities[0]["digest"] != identities[1]["digest"]


def test_a_commit_without_rows_is_a_version_of_its_own(tables):
    result = IntakeResult(ingested_files=(IngestedFile(path="a.csv"),))
    version = append(tables, 0, 2)

    record = LINEAGE.commit(Invocation(), result)
    completed = commit(tables, Triplets, [], record, mode="append", expected=version)

    assert completed.commit.result == result
    assert completed.num_rows() == 2


def test_replaced_rows_take_the_place_of_those_with_the_same_values(tables):
    def evaluated(model: str, query: str, value: float) -> pl.DataFrame:
        row = {
            "model_id": model,
            "data_set": "d",
            "query_id": query,
            "dimension": 64,
            "metric": "RR@10",
            "value": value,
        }
        return pl.DataFrame([row], schema=Evaluations.polars_schema())

    replace_rows(
        tables, Evaluations, pl.concat([evaluated("a", "1", 0.1), evaluated("a", "2", 0.2)]), ["model_id"], LINEAGE
    )
    replace_rows(tables, Evaluations, evaluated("b", "1", 0.3), ["model_id"], LINEAGE)
    newest = replace_rows(tables, Evaluations, evaluated("a", "1", 0.9), ["model_id"], LINEAGE)

    assert newest.scan().select("model_id", "query_id", "value").collect().rows() == [("a", "1", 0.9), ("b", "1", 0.3)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("triplets@9", "triplets has the versions 0 to 0"),
        ("curated_triplets@0", "there is no table curated_triplets"),
        ("nothing@0", "'nothing' is no table; expected one of ingested_files"),
        ("triplets", "expected TABLE@VERSION"),
    ],
)
def test_a_version_that_does_not_exist_is_refused_with_what_exists(tables, text, told):
    append(tables, 0, 1)

    with pytest.raises(UserError, match=told):
        tables.parse(text)


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(UserError, match="file is a file; expected a folder"):
        Tables.at(str(tmp_path / "file" / "below"))


@pytest.mark.parametrize("root", ["s3://", "s3://A bucket/x", "gs://bucket/x"])
def test_a_root_of_another_form_is_refused(root):
    with pytest.raises(UserError, match="s3://bucket/prefix"):
        Tables.at(root)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_a_key_and_statistics_among_its_columns(name):
    table = TABLES[name]
    columns = set(table.arrow_schema().names)

    assert table.key_columns()
    assert set(table.key_columns()) <= columns
    assert table.statistics_columns()
    assert set(table.statistics_columns()) <= columns


def test_credentials_stay_out_of_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-write-me")

    append(Tables.at(str(tmp_path)), 0, 1)

    log = Path(tmp_path, "triplets", "_delta_log", f"{0:020}.json").read_text()
    assert json.loads(log.splitlines()[0])["commitInfo"]
    assert "do-not-write-me" not in log
