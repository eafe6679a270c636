"""Writing: validated Parquet files first, then one atomic commit that makes them a version.

    write_file(frame) -> DataFile     Pandera (eager, all failures at once), Arrow schema, statistics; not yet visible
    commit(files) -> TableVersion     exactly the next version, or VersionMoved

A commit is a compare-and-set: with `max_commit_retries=0` delta-rs writes version n + 1 of the handle it was
given or fails, and the log entry is created only if it is not there (file system and S3 alike). Nothing is
visible before it; files of a crashed run stay invisible until a vacuum removes them.
"""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import pandera.errors
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions
from pyarrow import fs

from pipelines.stage.errors import UserError
from pipelines.storage.commits import ColumnsAdded, Commit, Record
from pipelines.storage.lineage import Lineage
from pipelines.storage.tables import Tables
from pipelines.storage.versions import TableVersion
from schemas import Table

Mode = Literal["append", "overwrite"]


class VersionMoved(RuntimeError):
    """The table is no longer at the version that the caller's rows were made against."""


class InvalidRows(ValueError):
    """Rows that break their table's schema; carries every failure, by check."""


class DataFile(NamedTuple):
    """A Parquet file that lies under its table and is not yet part of a version."""

    path: str
    size_bytes: int
    num_rows: int
    statistics: str


def validate(table: type[Table], frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, checked by the table's Pandera model. Raises InvalidRows with all failures at once."""
    try:
        return table.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        failures = (
            error.failure_cases.group_by("column", "check")
            .agg(pl.len().alias("rows"), pl.col("failure_case").cast(pl.String).first().str.slice(0, 200))
            .sort("column", "check")
        )
        told = "; ".join(
            f"{row['column']}: {row['check']} ({row['rows']}, e.g. {row['failure_case']})"
            for row in failures.to_dicts()
        )
        raise InvalidRows(f"{table.table_name()}: {len(frame)} rows do not fit the table: {told}") from error


def _to_arrow(table: type[Table], frame: pl.DataFrame) -> pa.Table:
    """The frame in the table's types. Validated first: pyarrow checks nulls only on cast between equal schemas."""
    return validate(table, frame).to_arrow().cast(table.arrow_schema())


def write_file(tables: Tables, table: type[Table], frame: pl.DataFrame) -> DataFile:
    """Validate a block and write it as one Parquet file under the table. Row order is kept."""
    frame = frame.select(table.polars_schema().keys())
    rows, path = _to_arrow(table, frame), f"{uuid.uuid4().hex}.parquet"
    filesystem, root = tables.filesystem()
    folder = f"{root}/{table.table_name()}"
    filesystem.create_dir(folder, recursive=True)
    pq.write_table(rows, f"{folder}/{path}", filesystem=filesystem, compression="zstd")
    size = filesystem.get_file_info(f"{folder}/{path}").size
    return DataFile(path, size, len(frame), file_statistics(table, frame))


def file_statistics(table: type[Table], frame: pl.DataFrame) -> str:
    """What the log says of a file with these rows, as JSON."""
    columns = table.statistics_columns() if len(frame) else []
    return json.dumps(
        {
            "numRecords": len(frame),
            "minValues": {column: frame[column].min() for column in columns},
            "maxValues": {column: frame[column].max() for column in columns},
            "nullCount": {column: frame[column].null_count() for column in columns},
        }
    )


def commit(
    tables: Tables,
    table: type[Table],
    files: Sequence[DataFile],
    record: Commit,
    *,
    mode: Mode,
    expected: TableVersion | None,
) -> TableVersion:
    """Make the files part of the next version after `expected` (version 0 if that is None), or raise VersionMoved.

    Where rows are appended to a table older than a column of the schema, a version before that adds the column.
    """
    now_ms = int(time.time() * 1000)
    added = [AddAction(file.path, file.size_bytes, {}, now_ms, True, file.statistics) for file in files]
    if expected is None:
        return _create(tables, table, added, record)
    schema = Schema.from_arrow(table.arrow_schema())
    try:
        handle = expected.tables.delta(expected.name, expected.version)
        if mode == "append":  # an overwrite brings its schema along
            _widen(handle, schema, record)
        base = handle.version()
        handle.create_write_transaction([*added], mode, schema, commit_properties=_properties(record))
    except CommitFailedError as error:
        if stands := _stands_or_moved(expected, record, error):
            return stands
        raise VersionMoved(f"{expected} is not the newest version any more") from error
    return TableVersion(tables, expected.name, base + 1)


def standing(before: TableVersion, record: Commit) -> TableVersion | None:
    """The version after `before` that a commit with this record made, though it seemed to fail; None when it did.

    An object store may put a log entry there and fail to say so: asked again, it answers that there is one already.
    """
    newest = before.tables.latest(before.name)
    for version in newest.history() if newest else ():
        if version.version <= before.version:
            break
        if (version.commit.id, version.commit.stage) == (record.id, record.stage):
            return version
    return None


def _stands_or_moved(expected: TableVersion, record: Commit, error: CommitFailedError) -> TableVersion | None:
    """The version that a failed commit made after all; None when another's commit was faster.

    Raises:
        UserError: it failed for another reason: trying again would not help.
    """
    if stands := standing(expected, record):
        return stands
    if expected.tables.latest(expected.name) == expected:
        why = str(error).splitlines()[0]
        raise UserError(
            f"nothing can be added to {expected} ({why}): another program changed the table's properties or protocol; "
            f"take that back at {expected.tables.path(expected.name)}, or use another root"
        ) from error
    return None


def _properties(record: Commit) -> CommitProperties:
    """Compare-and-set: no attempt on top of another's commit."""
    return CommitProperties(custom_metadata=record.custom_metadata(), max_commit_retries=0)


def _widen(handle: DeltaTable, schema: Schema, record: Commit) -> None:
    """Add the columns of the schema that an older table lacks, by a commit of their own.

    Without it delta-rs would append the rows and leave their new columns out, silently.
    """
    there = {field.name for field in handle.schema().fields}
    if lacking := [field for field in schema.fields if field.name not in there]:
        added = ColumnsAdded(columns=tuple(field.name for field in lacking))
        record = record.model_copy(update={"stage": "add columns", "inputs": (), "result": added})
        handle.alter.add_columns(lacking, commit_properties=_properties(record))


def _create(tables: Tables, table: type[Table], added: list[AddAction], record: Commit) -> TableVersion:
    """Version 0, with the properties that keep every version readable."""
    name = table.table_name()
    filesystem, root = tables.filesystem()
    filesystem.create_dir(f"{root}/{name}", recursive=True)
    try:
        create_table_with_add_actions(
            tables.url(name),
            Schema.from_arrow(table.arrow_schema()),
            added,
            mode="error",
            name=name,
            configuration={
                "delta.logRetentionDuration": "interval 36500 days",
                "delta.enableExpiredLogCleanup": "false",
                "delta.dataSkippingStatsColumns": ",".join(table.statistics_columns()),
            },
            storage_options=tables.storage_options,
            commit_properties=_properties(record),
        )
    except DeltaError as error:
        if stands := standing(TableVersion(tables, name, -1), record):
            return stands
        if tables.latest(name) is not None:
            raise VersionMoved(f"{name} was created meanwhile") from error
        raise
    return TableVersion(tables, name, 0)


@dataclass
class Writer:
    """Collects the blocks of one new version."""

    tables: Tables
    table: type[Table]
    files: list[DataFile] = field(default_factory=list)
    result: Record | None = None  # what came out, if that is known only at the end
    version: TableVersion = field(init=False)  # there after the with block

    def write(self, frame: pl.DataFrame) -> None:
        """Validate and write one block; an empty one is checked and leaves no file."""
        if len(frame):
            self.files.append(write_file(self.tables, self.table, frame))
        else:
            validate(self.table, frame)


def remove_files(tables: Tables, table: type[Table], files: Sequence[DataFile]) -> None:
    """Delete files that never became part of a version."""
    filesystem, root = tables.filesystem()
    for file in files:
        path = f"{root}/{table.table_name()}/{file.path}"
        if filesystem.get_file_info(path).type == fs.FileType.File:
            filesystem.delete_file(path)


@contextmanager
def new_version(
    tables: Tables,
    table: type[Table],
    lineage: Lineage,
    *,
    mode: Mode = "append",
    expected: TableVersion | Literal["newest"] | None = "newest",
) -> Iterator[Writer]:
    """One new version from the blocks written inside the with; an exception inside commits nothing.

    Args:
        mode: "append" adds rows, "overwrite" makes the blocks the whole table.
        expected: the version that the rows were made against (None: no table yet); VersionMoved, with nothing
            committed, when the table has moved on. "newest": commit after whatever is newest.
    """
    writer = Writer(tables, table)
    try:
        yield writer
    except BaseException:
        remove_files(tables, table, writer.files)
        raise
    record = lineage.commit(tables.invocation, writer.result)
    while True:
        base = tables.latest(table.table_name()) if expected == "newest" else expected
        try:
            writer.version = commit(tables, table, writer.files, record, mode=mode, expected=base)
            return
        except VersionMoved:
            if expected != "newest":
                remove_files(tables, table, writer.files)  # after any other failure the commit may stand
                raise


def replace_rows(
    tables: Tables, table: type[Table], frame: pl.DataFrame, on: Sequence[str], lineage: Lineage
) -> TableVersion:
    """Add rows and take out, in the same commit, the older rows whose `on` values occur among them."""
    name = table.table_name()
    rows = frame.select(table.polars_schema().keys()).sort(table.key_columns())
    if tables.latest(name) is None:
        with suppress(VersionMoved):  # when another run makes the table meanwhile
            with new_version(tables, table, lineage, expected=None) as writer:
                writer.write(rows)
            return writer.version
    return _replace(tables, table, rows.select(on), rows, lineage)


def delete_rows(version: TableVersion, table: type[Table], keys: pl.DataFrame, lineage: Lineage) -> TableVersion:
    """Take out of the newest version the rows whose values are those of one of the `keys`, whose columns are text."""
    return _replace(version.tables, table, keys, pl.DataFrame(schema=table.polars_schema()), lineage)


def _replace(
    tables: Tables, table: type[Table], keys: pl.DataFrame, rows: pl.DataFrame, lineage: Lineage
) -> TableVersion:
    """Rows in the place of those that have one of the `keys`, in one commit."""
    name = table.table_name()
    arrow, record = _to_arrow(table, rows), lineage.commit(tables.invocation)
    while True:
        handle = tables.delta(name)
        try:
            if not tables.takes_predicates:
                return _rewrite(tables, table, keys, rows, lineage)
            _widen(handle, Schema.from_arrow(table.arrow_schema()), record)
            write_deltalake(
                handle,
                arrow,
                mode="overwrite",
                predicate=_equal_to(keys),
                schema_mode="merge",
                commit_properties=_properties(record),
            )
            return TableVersion(tables, name, handle.version())
        except VersionMoved:
            continue
        except CommitFailedError as error:  # when another commit is faster
            if stands := _stands_or_moved(TableVersion(tables, name, handle.version()), record, error):
                return stands


def _equal_to(keys: pl.DataFrame) -> str:
    """SQL that is true of rows whose values are those of one of the keys."""
    equal = [pl.format(f"{column} = '{{}}'", pl.col(column).str.replace_all("'", "''")) for column in keys.columns]
    groups = keys.select(pl.concat_str(equal, separator=" AND ").unique().sort()).to_series()
    return " OR ".join(f"({group})" for group in groups)


def _rewrite(
    tables: Tables, table: type[Table], keys: pl.DataFrame, rows: pl.DataFrame, lineage: Lineage
) -> TableVersion:
    """What a predicate would do, by the whole table anew, in memory."""
    there = tables.latest(table.table_name())
    assert there is not None, "there are rows to take out"
    others = there.scan().select(table.polars_schema().keys()).join(keys.lazy(), on=keys.columns, how="anti").collect()
    with new_version(tables, table, lineage, mode="overwrite", expected=there) as writer:
        writer.write(pl.concat([others, rows]))
    return writer.version
