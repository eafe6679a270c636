"""A table that is older than a column: it reads as null, and gets the column before rows are added."""

import polars as pl
import pytest
from deltalake import write_deltalake

from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, VersionMoved, new_version
from pipelines.storage.commits import ColumnsAdded
from schemas import QuarantinedRows
from tests.rows import frame_of

LINEAGE = Lineage("ingest", [], Config(), note="why")


def row(number: int) -> pl.DataFrame:
    return frame_of(QuarantinedRows, {"source_row": number, "raw": f"line {number}"})


@pytest.fixture
def older(tmp_path):
    """quarantined_rows as it would be had `raw` come later, with a column of another program's at its end."""
    tables = Tables.at(str(tmp_path))
    rows = row(1).drop("raw").with_columns(checked_by=pl.lit("someone"))
    write_deltalake(tables.path("quarantined_rows"), rows.to_arrow())
    return tables


def test_the_missing_column_reads_as_null_in_its_place(older):
    columns = [*QuarantinedRows.polars_schema(), "checked_by"]
    version = older.latest("quarantined_rows")

    assert version.scan().collect_schema().names() == columns
    assert version.scan().select("source_row", "raw", "checked_by").collect().rows() == [(1, None, "someone")]
    assert version.scan().filter(pl.col("raw").is_null()).collect().height == 1


def test_rows_are_appended_with_the_column_which_a_commit_of_its_own_adds(older):
    with new_version(older, QuarantinedRows, LINEAGE) as writer:
        writer.write(row(2))

    assert str(writer.version) == "quarantined_rows@2"
    added = older.parse("quarantined_rows@1")
    assert added.commit.reports(ColumnsAdded) == ColumnsAdded(columns=("raw",))
    assert (added.commit.stage, added.commit.note, added.commit.keeps_rows) == ("add columns", "why", True)
    rows = writer.version.scan().sort("source_row").select("source_row", "raw", "checked_by").collect().rows()
    assert rows == [(1, None, "someone"), (2, "line 2", None)]
    assert older.parse("quarantined_rows@0").scan().collect()["raw"].to_list() == [None]


def test_the_column_is_added_once(older):
    for number in (2, 3):
        with new_version(older, QuarantinedRows, LINEAGE) as writer:
            writer.write(row(number))

    assert writer.version.version == 3


def test_overwriting_brings_the_column_in_one_commit(older):
    with new_version(older, QuarantinedRows, LINEAGE, mode="overwrite") as writer:
        writer.write(row(2))

    assert str(writer.version) == "quarantined_rows@1"
    assert writer.version.scan().collect()["raw"].to_list() == ["line 2"]


def test_a_writer_that_was_overtaken_adds_neither_column_nor_rows(older):
    base = older.latest("quarantined_rows")
    with new_version(older, QuarantinedRows, LINEAGE, expected=base) as writer:
        writer.write(row(2))

    with pytest.raises(VersionMoved), new_version(older, QuarantinedRows, LINEAGE, expected=base) as late:
        late.write(row(3))

    assert older.latest("quarantined_rows") == writer.version
    assert sorted(writer.version.scan().collect()["source_row"]) == [1, 2]


def test_a_table_that_lacks_a_column_without_nulls_is_told(tmp_path):
    tables = Tables.at(str(tmp_path))
    write_deltalake(tables.path("quarantined_rows"), row(1).drop("source_row").to_arrow())

    with pytest.raises(UserError, match=r"quarantined_rows@0 has no column source_row; expected source_file, "):
        tables.latest("quarantined_rows").scan()
