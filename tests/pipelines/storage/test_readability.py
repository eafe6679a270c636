"""What other programs do to our tables: read right, looked through, or refused by the version's name."""

import json
import os
import re
import struct
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType
from pyarrow import fs

from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version, replace_rows
from pipelines.storage.commits import CurationResult, Input, IntakeResult
from schemas import CuratedTriplets, Evaluations, Triplets
from tests.rows import frame_of

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


@pytest.fixture
def three(append, tables):
    """triplets@2: three versions of two rows each."""
    return [append(tables, first, 2) for first in (0, 2, 4)][-1]


def queries(version):
    return sorted(version.scan().collect()["query"])


def optimize_and_vacuum(tables, name="triplets"):
    table = tables.delta(name)
    table.optimize.z_order(list(("query_id",)))  # rewrites a single file, too
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def log_entry(version, ahead=0):
    return Path(version.tables.path(version.name), "_delta_log", f"{version.version + ahead:020}.json")


def write_entry(version, *actions):
    """The next log entry of a version, by hand."""
    log_entry(version, 1).write_text("".join(f"{json.dumps(action)}\n" for action in actions))
    return version.tables.latest(version.name)


def upgraded(version, reader=(), writer=(), **versions):
    """The next version, after an upgrade of the protocol by another program."""
    features = {"readerFeatures": list(reader), "writerFeatures": [*reader, *writer]}
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, **features} | versions
    return write_entry(version, {"commitInfo": {"operation": "UPGRADE PROTOCOL"}}, {"protocol": protocol})


def test_after_optimize_and_vacuum_a_version_is_read_from_the_files_that_hold_its_rows(three, tables, capsys):
    rows, identity = queries(three), three.identity()
    optimize_and_vacuum(tables)

    again = tables.parse("triplets@2")
    assert (queries(again), again.num_rows(), again.identity()) == (rows, 6, identity)
    assert again.usable().rows_in() == tables.latest("triplets")
    assert tables.newest("triplets") == again
    told = capsys.readouterr().err
    assert "triplets@2 lacks 3 of its 3 data files (another program's VACUUM?): reading the same rows from" in told
    assert told.count("reading the same rows") == 1
    with pytest.raises(UserError, match=r"triplets@1 lacks 2 of its 2 data files .*; triplets@5 is the newest other"):
        tables.parse("triplets@1").scan()


def remove_file(version):
    Path(version.tables.path(version.name), version.files()[0]["path"]).unlink()


def cut_file(version):
    os.truncate(Path(version.tables.path(version.name), version.files()[0]["path"]), 100)


def zero_file(version):
    file = version.files()[0]
    Path(version.tables.path(version.name), file["path"]).write_bytes(bytes(file["size_bytes"]))


def empty_entry(version):
    log_entry(version).write_text("")


def map_columns(version):
    upgraded(version, ["columnMapping"])


def map_columns_as_version_2(version):
    write_entry(version, {"commitInfo": {}}, {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}})


def widen_types(version):
    upgraded(version, ["typeWidening"])


def rewrite(version, change):
    rows = change(pl.read_delta(version.tables.path(version.name)))
    write_deltalake(version.tables.path(version.name), rows.to_arrow(), mode="overwrite", schema_mode="overwrite")


def drop_column(version):
    rewrite(version, lambda rows: rows.drop("query"))


def rename_column(version):
    rewrite(version, lambda rows: rows.rename({"query": "question"}))


def retype_column(version):
    rewrite(version, lambda rows: rows.with_columns(source_row=pl.col("source_row").cast(pl.Float64)))


def put_another_table_there(version):
    rewrite(version, lambda rows: pl.DataFrame({"price": [1.0]}))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (remove_file, "triplets@2 lacks 1 of its 3 data files"),
        (cut_file, "triplets@2 has 1 data files of another length than its log says"),
        (empty_entry, r"triplets@2 has an empty entry in its log, 0+2\.json"),
        (drop_column, "triplets@3 has no column query; expected triplet_id, "),
        (rename_column, "triplets@3 has no column query; expected triplet_id, "),
        (retype_column, "triplets@3 has the column source_row as Float64, expected Int64"),
        (put_another_table_there, "triplets@3 has no column negative, .*; expected triplet_id, "),
    ],
)
def test_what_cannot_be_read_is_refused_by_name_with_the_newest_that_can(three, tables, harm, told, capsys):
    harm(three)
    readable = "triplets@1" if "triplets@2" in told else "triplets@2"
    newest = tables.latest("triplets")
    for refused in (newest.scan, newest.usable, newest.rows_in):
        with pytest.raises(UserError, match=f"{told}.*; {readable} is the newest other one"):
            refused()
    with pytest.raises(UserError, match=r"nothing can be (added|written) to .*/triplets"):
        tables.check_writable("triplets")
    assert str(tables.newest("triplets")) == readable
    assert f"passing over {newest}, which" in capsys.readouterr().err


def test_a_version_with_a_file_of_zeros_is_passed_over_before_any_work(three, tables):
    zero_file(three)
    told = "triplets@2 has 1 damaged data files .* no Parquet at its end"

    with pytest.raises(UserError, match=f"{told}.*; triplets@1 is the newest other one"):
        tables.latest("triplets").usable()
    with pytest.raises(UserError, match=f"nothing can be added to .*/triplets: {told}"):
        tables.check_writable("triplets")
    assert str(tables.newest("triplets")) == "triplets@1"


def test_where_no_version_can_be_read_each_is_named_with_what_is_wrong(tables, append):
    remove_file(append(tables, 0, 1))
    append(tables, 1, 1)

    told = (
        "no version of triplets can be used: triplets@1 lacks 1 of its 2 .*; triplets@0 lacks 1 of its 1 .*from a copy"
    )
    with pytest.raises(UserError, match=told):
        tables.newest("triplets")


@pytest.mark.parametrize("harm", [map_columns, map_columns_as_version_2, widen_types])
def test_rows_behind_an_upgraded_protocol_are_read_from_before_it_and_nothing_is_added(three, tables, harm, capsys):
    rows = queries(three)
    harm(three)

    assert queries(tables.latest("triplets")) == rows
    assert "polars does not support): reading the same rows from the files of triplets@2" in capsys.readouterr().err
    with pytest.raises(
        UserError, match=r"nothing can be written to .*/triplets: triplets@3 cannot be opened .*FEATURE"
    ):
        tables.check_writable("triplets")


@pytest.mark.parametrize("reader", [["timestampNtz"], ["deletionVectors"]])
def test_an_upgrade_that_takes_nothing_away_is_read_and_added_to(three, tables, append, reader):
    newest = upgraded(three, reader)

    tables.check_writable("triplets")
    assert tables.newest("triplets") == three == newest.origin()
    assert append(tables, 6, 2).num_rows() == 8


@pytest.mark.parametrize("writer", [["rowTracking", "domainMetadata"], ["inCommitTimestamp"], ["clustering"], ["new"]])
def test_what_delta_rs_cannot_write_is_refused_before_and_never_tried_for_ever(three, tables, append, writer):
    newest = upgraded(three, writer=writer)

    assert len(queries(newest)) == 6
    with pytest.raises(UserError, match=rf"triplets@3 asks its writers for .*{writer[0]}"):
        tables.check_writable("triplets")
    with pytest.raises(UserError, match=r"nothing can be added to triplets@3 \(Unsupported table features"):
        append(tables, 6, 2)


def test_a_reader_version_that_nobody_knows_yet_is_no_damage(three, tables):
    log_entry(three, 1).write_text('{"protocol":{"minReaderVersion":9,"minWriterVersion":9}}')

    with pytest.raises(UserError, match=r"upgraded .*/triplets beyond what delta-rs reads .*reader version 9"):
        tables.newest("triplets")


def z85(data):
    words = struct.unpack(f">{len(data) // 4}I", data)
    return "".join(Z85[word // 85**power % 85] for word in words for power in (4, 3, 2, 1, 0))


def deletion_vector(*rows):
    """Delta's inline form of a roaring bitmap of row numbers."""
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(rows) - 1, 16) + struct.pack(f"<{len(rows)}H", *rows)
    data = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    inline = z85(data + bytes(-len(data) % 4))
    return {"storageType": "i", "pathOrInlineDv": inline, "sizeInBytes": len(data), "cardinality": len(rows)}


def test_a_deletion_vector_is_honoured_and_its_version_is_not_taken_for_ours(three, tables):
    before = queries(three)
    enabled = upgraded(three, ["deletionVectors"])
    (add,) = [json.loads(line)["add"] for line in log_entry(three, -1).read_text().splitlines() if '"add"' in line]
    kept = {name: value for name, value in add.items() if value is not None}
    deleted = write_entry(
        enabled,
        {"commitInfo": {"operation": "DELETE"}},
        {"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": kept | {"deletionVector": deletion_vector(1)}},
    )

    assert len(queries(deleted)) == deleted.num_rows() == 5
    assert set(queries(deleted)) < set(before)
    assert deleted.identity()["digest"] != enabled.identity()["digest"]
    with pytest.raises(
        UserError, match=r"triplets@4 was made by another program \(DELETE\), which changed rows; triplets@3"
    ):
        deleted.usable()
    tables.delta("triplets").restore(3)
    assert tables.latest("triplets").origin() == three


def test_a_restore_is_the_version_that_it_went_back_to(three, tables, append):
    tables.delta("triplets").restore(1)
    restored = tables.latest("triplets")

    assert restored.origin() == restored.written() == tables.newest("triplets") == tables.parse("triplets@1")
    assert [str(one) for one, _ in restored.results(IntakeResult)] == ["triplets@1", "triplets@0"]
    tables.check_writable("triplets")
    added = append(tables, 6, 1)
    assert [str(one) for one, _ in added.results(IntakeResult)] == ["triplets@4", "triplets@1", "triplets@0"]
    assert added.num_rows() == 5


def delete(table):
    table.delete("source_row > 0")


def update(table):
    table.update({"source": "'mine'"})


def overwrite(table):
    write_deltalake(table, frame_of(Triplets, {"query": "another's"}).to_arrow(), mode="overwrite")


def append_rows(table):
    write_deltalake(table, frame_of(Triplets, {"query": "another's"}).to_arrow(), mode="append")


@pytest.mark.parametrize("change", [delete, update, overwrite, append_rows])
def test_rows_that_another_program_changed_are_passed_over_refused_by_name_and_not_built_on(
    three, tables, change, capsys
):
    change(tables.delta("triplets"))
    changed = tables.latest("triplets")

    assert tables.newest("triplets") == three
    assert "passing over triplets@3, which was made by another program" in capsys.readouterr().err
    told = r"triplets@3 was made by another program \(\w+\), which changed rows; triplets@2 .*restore\(2\)"
    with pytest.raises(UserError, match=told):
        changed.usable()
    with pytest.raises(UserError, match=f"nothing can be added to .*/triplets: {told}"):
        tables.check_writable("triplets")


def test_a_whole_version_may_follow_whatever_another_program_did(tables):
    def curate():
        with new_version(tables, CuratedTriplets, Lineage("curate", [], Config()), mode="overwrite") as writer:
            writer.write(frame_of(CuratedTriplets))
        return writer.version

    first = curate()
    tables.delta("curated_triplets").delete("true")
    tables.check_writable("curated_triplets")
    assert curate().origin().commit.reports(CurationResult) is not None
    remove_file(tables.latest("curated_triplets"))
    tables.check_writable("curated_triplets")
    assert tables.newest("curated_triplets") == first
    tables.delta("curated_triplets").alter.set_table_properties({"delta.appendOnly": "true"})
    with pytest.raises(UserError, match="may only be added to"):
        tables.check_writable("curated_triplets")


def test_a_column_of_another_program_stays_empty_in_what_is_added(three, tables, append):
    for name in ("triplets", "evaluations"):
        replace_rows(tables, Evaluations, frame_of(Evaluations, model_id="a"), ["model_id"], Lineage("e", [], Config()))
        tables.delta(name).alter.add_columns([Field("reviewed", PrimitiveType("string"), nullable=True)])

    added = append(tables, 6, 1)
    rows = frame_of(Evaluations, model_id="a")
    replaced = replace_rows(tables, Evaluations, rows, ["model_id"], Lineage("e", [], Config()))

    assert added.num_rows() == 7
    assert added.scan().collect()["reviewed"].is_null().all()
    assert replaced.scan().collect()["reviewed"].to_list() == [None]


def test_a_log_that_another_program_cleaned_leaves_what_it_still_tells(three, tables):
    tables.delta("triplets").create_checkpoint()
    for ahead in (-2, -1):
        log_entry(three, ahead).unlink()

    assert tables.newest("triplets") == three
    assert len(queries(three)) == 6
    with pytest.raises(UserError, match=r"triplets@1 cannot be opened .*; triplets@2 is the newest other one"):
        tables.parse("triplets@1").usable()
    log_entry(three).unlink()
    with pytest.raises(UserError, match=r"nothing can be written to .*: triplets@2 has no entry in the log any more"):
        tables.check_writable("triplets")


def test_a_version_recorded_of_a_table_that_was_made_anew_is_refused(three, tables, append, tmp_path):
    read = Input(**three.identity())
    assert tables.recorded(read) == three
    anew = Tables.at(str(tmp_path / "anew"))
    append(anew, 0, 1)

    with pytest.raises(UserError, match=rf"triplets@2 was of the Delta table {read.table_id}, found .*made anew"):
        anew.recorded(read)


def test_ten_thousand_files_are_looked_for_in_one_listing(three, monkeypatch):
    calls = []
    filesystem, root = three.tables.filesystem()

    class Counting:
        def get_file_info(self, wanted):
            calls.append(wanted)
            return filesystem.get_file_info(wanted)

    monkeypatch.setattr(Tables, "filesystem", lambda _: (Counting(), root))
    assert three.unreadable is None
    assert sum(isinstance(one, fs.FileSelector) for one in calls) == 1


def test_statistics_that_another_program_left_out_are_done_without(three, tables):
    entry = log_entry(three)
    entry.write_text(
        "".join(
            json.dumps({kind: action | {"stats": None} if kind == "add" else action}) + "\n"
            for line in entry.read_text().splitlines()
            for kind, action in json.loads(line).items()
        )
    )

    assert tables.parse("triplets@2").num_rows() == 6
    assert DeltaTable(tables.path("triplets")).version() == 2


def test_an_empty_last_entry_is_removed_as_told_and_the_version_before_is_the_newest_again(three, tables):
    empty_entry(three)

    with pytest.raises(UserError, match=rf"bring {re.escape(str(log_entry(three)))} back from a copy, or remove it"):
        three.scan()
    log_entry(three).unlink()

    assert str(Tables.at(tables.uri).latest("triplets").usable()) == "triplets@1"
