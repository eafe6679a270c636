"""Compaction: fewer files with the same rows, the versions before them as they were, others' commits in between."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version, replace_rows
from pipelines.storage.commits import IngestedFile, IntakeResult
from pipelines.storage.compact import CompactConfig, compact
from schemas import CuratedTriplets, Evaluations, Triplets
from tests.rows import frame_of

HOSTILE = "a b'é#?*[1]{100%}|^"


def rows(version):
    return version.scan().collect().sort("triplet_id")


def merged(tables, *names, **config):
    return [(str(before), str(after)) for before, after in compact(tables, list(names), CompactConfig(**config))]


@pytest.mark.parametrize("name", ["tables", HOSTILE])
def test_rows_and_older_versions_stay_and_a_reader_finds_the_one_a_stage_wrote(append, tmp_path, name):
    tables = Tables.at(str(tmp_path / name))
    versions = [append(tables, 3 * number, 3) for number in range(5)]
    before = [(rows(version), version.identity()) for version in versions]

    assert merged(tables) == [("triplets@4", "triplets@5")]

    newest = tables.latest("triplets")
    (file,) = newest.files()
    assert (file["num_records"], file["min.query_id"]) == (15, before[-1][0]["query_id"].min())
    assert rows(newest).equals(before[-1][0])
    assert newest.scan().collect()["query_id"].is_sorted()
    assert tables.newest("triplets") == newest.origin() == versions[-1]
    assert newest.commit.stage == "compact"
    again = [tables.parse(str(version)) for version in versions]
    assert all(rows(version).equals(was) for version, (was, _) in zip(again, before, strict=True))
    assert [version.identity() for version in again] == [identity for _, identity in before]
    assert rows(append(tables, 15, 1)).height == 16


def test_a_table_of_one_small_file_is_left_alone_and_so_is_one_that_was_compacted(append, tables):
    append(tables, 0, 3)
    assert merged(tables) == [("triplets@0", "triplets@0")]
    append(tables, 3, 3)
    assert merged(tables, "triplets") == [("triplets@1", "triplets@2")]
    assert merged(tables) == [("triplets@2", "triplets@2")]
    assert merged(tables, target_mb=0.001) == [("triplets@2", "triplets@2")]


def test_only_small_files_are_rewritten_and_the_new_ones_have_ranges_of_their_own(append, tables):
    append(tables, 0, 4000)
    (large,) = tables.latest("triplets").files()
    for number in range(6):
        append(tables, 4000 + 300 * number, 300)
    mb = large["size_bytes"] / 1e6

    merged(tables, target_mb=mb / 3)

    files = {file["path"]: file for file in tables.latest("triplets").files()}
    assert files.pop(large["path"])["num_records"] == 4000
    bounds = sorted((file["min.query_id"], file["max.query_id"]) for file in files.values())
    assert 2 <= len(bounds) < 6
    assert all(before[1] < after[0] for before, after in pairwise(bounds))
    assert tables.latest("triplets").scan().collect()["query"].n_unique() == 5800


def test_what_ingest_recorded_is_found_behind_a_compaction(tables):
    for number in range(2):
        with new_version(tables, Triplets, Lineage("ingest", [], Config())) as writer:
            writer.write(frame_of(Triplets, {"query": f"query {number}"}))
            writer.result = IntakeResult(ingested_files=(IngestedFile(path=f"{number}.jsonl"),))
    merged(tables)

    found = [result.ingested_files[0].path for _, result in tables.latest("triplets").results(IntakeResult)]

    assert found == ["1.jsonl", "0.jsonl"]


def test_rows_that_others_add_meanwhile_stay(append, tables):
    for number in range(3):
        append(tables, number, 1)

    with ThreadPoolExecutor(3) as pool:
        adding = [pool.submit(append, tables, number, 1) for number in range(3, 15)]
        for _ in range(4):
            merged(tables)
        assert [future.result() for future in adding]

    queries = tables.latest("triplets").scan().collect()["query"]
    assert sorted(queries) == sorted(f"query {number}" for number in range(15))


def test_of_two_compactions_at_once_one_finds_nothing_to_do_or_both_leave_the_rows(append, tables):
    for number in range(8):
        append(tables, number, 1)

    with ThreadPoolExecutor(2) as pool:
        done = [future.result() for future in [pool.submit(merged, tables) for _ in range(2)]]

    assert len(done) == 2
    newest = tables.latest("triplets")
    assert (len(newest.files()), newest.scan().collect()["query"].n_unique(), newest.num_rows()) == (1, 8, 8)


def test_tables_whose_rows_are_replaced_are_compacted_too(tables):
    lineage = Lineage("evaluate", [], Config())
    for number in range(3):
        replace_rows(tables, Evaluations, frame_of(Evaluations, {"query_id": str(number)}), ["query_id"], lineage)
    for _ in range(2):
        with new_version(tables, CuratedTriplets, Lineage("curate", [], Config()), mode="overwrite") as curated:
            curated.write(frame_of(CuratedTriplets, {"query": "a"}))
            curated.write(frame_of(CuratedTriplets, {"query": "b"}))

    assert merged(tables) == [("curated_triplets@1", "curated_triplets@2"), ("evaluations@2", "evaluations@3")]

    assert sorted(tables.latest("evaluations").scan().collect()["query_id"]) == ["0", "1", "2"]
    replace_rows(tables, Evaluations, frame_of(Evaluations, {"query_id": "1"}), ["query_id"], lineage)
    assert tables.latest("evaluations").num_rows() == 3
    assert tables.newest("curated_triplets") == tables.parse("curated_triplets@1")


def test_a_table_that_is_not_there_or_whose_files_are_gone_is_refused_before_any_is_rewritten(append, tables):
    with new_version(tables, Evaluations, Lineage("evaluate", [], Config())) as writer:
        writer.write(frame_of(Evaluations, {"query_id": "1"}))
        writer.write(frame_of(Evaluations, {"query_id": "2"}))
    broken = [append(tables, number, 1) for number in range(2)][-1]

    with pytest.raises(UserError, match=r"there is no table models under .*; found triplets, evaluations"):
        merged(tables, "triplets", "models")
    with pytest.raises(UserError, match="'nothing' is no table"):
        merged(tables, "nothing")
    Path(tables.path("triplets"), broken.files()[0]["path"]).unlink()
    with pytest.raises(UserError, match="triplets@1 lacks 1 of its 2 data files"):
        merged(tables, "evaluations", "triplets")

    assert tables.latest("evaluations").version == 0
    assert broken.tables.latest("triplets") == broken
