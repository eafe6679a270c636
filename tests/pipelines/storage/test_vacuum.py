"""What a vacuum removes: files of old versions that nothing pins and no retention covers, and those of crashes."""

import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, new_version, write_file
from pipelines.storage.compact import CompactConfig, compact
from pipelines.storage.vacuum import Pin, plan
from schemas import CuratedTriplets, Triplets
from tests.aged import age
from tests.rows import frame_of

DAY = 24 * 3600


@pytest.fixture
def curations(tables):
    """Four whole versions of curated_triplets, each of one file, a day apart; the last one day old."""
    versions = []
    for number in range(4):
        with new_version(tables, CuratedTriplets, Lineage("curate", [], Config()), mode="overwrite") as curated:
            curated.write(frame_of(CuratedTriplets, {"query": f"query {number}"}))
        versions.append(curated.version)
        age(tables, 1)
    return versions


def vacuum(tables, *pins, days):
    planned = plan(tables, [Pin(f"pin {number}", versions) for number, versions in enumerate(pins)], days * DAY)
    planned.remove()
    return planned


def readable(versions):
    return [version.version for version in versions if version.tables.parse(str(version)).unreadable is None]


@pytest.mark.parametrize(("days", "left"), [(1.5, [2, 3]), (2.5, [1, 2, 3]), (0.5, [3]), (9, [0, 1, 2, 3])])
def test_a_version_stays_that_was_the_newest_within_the_retention(curations, tables, days, left):
    vacuum(tables, days=days)

    assert readable(curations) == left
    if 0 not in left:
        with pytest.raises(UserError, match=r"curated_triplets@0 lacks 1 of its 1 data files .*curated_triplets@3"):
            tables.parse("curated_triplets@0").usable()


def test_a_plan_says_when_the_first_file_leaves_the_retention_that_nothing_else_keeps(curations, tables):
    taken_out = time.time() - 3 * DAY  # the first version's, by the second

    assert plan(tables, [], 9 * DAY).next_at() == pytest.approx(taken_out + 9 * DAY, abs=300)
    assert plan(tables, [Pin("all", tuple(curations))], 9 * DAY).next_at() is None


def test_pinned_versions_stay_and_each_pin_is_told_what_it_alone_keeps(curations, tables):
    sizes = [version.files()[0]["size_bytes"] for version in curations]

    planned = vacuum(tables, (curations[0],), (curations[0], curations[1]), (curations[3],), days=0.5)

    assert readable(curations) == [0, 1, 3]
    assert planned.by_pin().rows() == [
        ("pin 0", "curated_triplets@0", sizes[0], 0),
        ("pin 1", "curated_triplets@0, curated_triplets@1", sizes[0] + sizes[1], sizes[1]),
        ("pin 2", "curated_triplets@3", 0, 0),
    ]
    assert planned.by_table().row(0) == ("curated_triplets", 4, sum(sizes), 1, sizes[2])


def test_a_plan_alone_removes_nothing(curations, tables):
    assert plan(tables, [], 0.5 * DAY).by_table()["files_to_remove"].to_list() == [3, 0]
    assert readable(curations) == [0, 1, 2, 3]


def test_files_of_a_crash_go_once_they_are_old_and_files_in_flight_stay(append, tables):
    version = append(tables, 0, 2)
    crashed = write_file(tables, Triplets, frame_of(Triplets, {"query": "lost"}))
    Path(tables.uri, "_texts_1.parquet").write_bytes(b"of a killed scoring")
    age(tables, 8)
    flying = write_file(tables, Triplets, frame_of(Triplets, {"query": "in flight"}))
    for other in ("_change_data/cdc.parquet", "deletion_vector_1.bin", "notes.txt"):
        path = Path(tables.path("triplets"), other)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"another program's")
    age(tables, 0.1)

    assert vacuum(tables, days=7).by_table()["files_to_remove"].to_list() == [1, 1]

    names = {path.name for path in Path(tables.path("triplets")).iterdir()}
    assert crashed.path not in names
    assert {flying.path, version.files()[0]["path"], "deletion_vector_1.bin", "notes.txt"} <= names
    assert not Path(tables.uri, "_texts_1.parquet").exists()


def test_it_keeps_what_deltas_own_vacuum_keeps(curations, append, tables):
    for number in range(3):
        append(tables, number, 1)
    list(compact(tables, [], CompactConfig()))
    age(tables, 0.25)
    versions = [tables.parse("triplets@1"), tables.parse("curated_triplets@1")]

    planned = plan(tables, [Pin("both", tuple(versions))], 0.5 * DAY, now=time.time() + DAY)

    for version in versions:
        table = DeltaTable(tables.path(version.name))
        newest = table.version()
        theirs = table.vacuum(0, enforce_retention_duration=False, full=True, keep_versions=[version.version, newest])
        ours = next(found.removed for found in planned.found if found.name == version.name)
        assert [path.partition("/")[2] for path in ours] == sorted(theirs)


def test_after_a_compaction_the_old_files_go_and_the_rows_stay(append, tables):
    versions = [append(tables, number, 1) for number in range(4)]
    list(compact(tables, [], CompactConfig()))
    age(tables, 8)

    vacuum(tables, (versions[1], versions[3]), days=7)

    assert readable(versions) == [0, 1]  # of the fourth the compaction has the rows
    assert len(list(Path(tables.path("triplets")).glob("*.parquet"))) == 3
    assert tables.parse("triplets@3").unusable is None
    assert tables.newest("triplets") == versions[3]
    assert sorted(tables.newest("triplets").scan().collect()["query"]) == [f"query {number}" for number in range(4)]


def test_the_newest_version_that_can_be_used_stays_where_another_program_spoiled_the_newest(curations, tables):
    tables.delta("curated_triplets").delete("true")
    age(tables, 8)

    vacuum(tables, days=7)

    assert readable(curations) == [3]
    assert tables.newest("curated_triplets") == curations[3]


def test_a_table_of_which_a_pinned_version_cannot_be_opened_is_left_alone_and_that_is_said(curations, tables, capsys):
    entry = Path(tables.path("curated_triplets"), "_delta_log", f"{1:020}.json")
    tables.delta("curated_triplets").create_checkpoint()
    entry.rename(entry.with_suffix(".away"))

    vacuum(tables, (curations[1],), days=0.5)
    assert "curated_triplets is left as it is: curated_triplets@1 cannot be opened" in capsys.readouterr().err
    entry.with_suffix(".away").rename(entry)

    assert readable(curations) == [0, 1, 2, 3]
