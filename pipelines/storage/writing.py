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
from contextlib import contextmanager
from typing import Literal, NamedTuple

import pandera.errors
import polars as pl
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions
from pyarrow import fs

from pipelines.storage.commits import ColumnsAdded, Commit, Record
from pipelines.storage.lineage import Lineage
from pipelines.storage.tables import Tables, TableVersion
from schemas import Table

ABSENT: Literal["absent"] = "absent"
Expected = TableVersion | Literal["absent"]
"""The version that rows were made against."""


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


def write_file(tables: Tables, table: type[Table], frame: pl.DataFrame) -> DataFile:
    """Validate a block and write it as one Parquet file under the table. Row order is kept."""
    validated = validate(table, frame.select(table.polars_schema().keys()))
    # pyarrow checks nulls only on cast between equal schemas; Pandera has refused them above.
    rows = validated.to_arrow().cast(table.arrow_schema())
    path = f"{uuid.uuid4().hex}.parquet"
    filesystem, root = tables.filesystem()
    folder = f"{root}/{table.table_name()}"
    filesystem.create_dir(folder, recursive=True)
    pq.write_table(rows, f"{folder}/{path}", filesystem=filesystem, compression="zstd")
    size = filesystem.get_file_info(f"{folder}/{path}").size
    return DataFile(path, size, len(validated), _statistics(table, validated))


def _statistics(table: type[Table], frame: pl.DataFrame) -> str:
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
    mode: Literal["append", "overwrite"],
    expected: Expected,
) -> TableVersion:
    """Make the files part of the next version after `expected` (version 0 when absent), or raise VersionMoved.

    Where rows are appended to a table older than a column of the schema, a version before that adds the column.
    """
    now_ms = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        AddAction(file.path, file.size_bytes, {}, now_ms, True, file.statistics) for file in files
    ]
    schema = Schema.from_arrow(table.arrow_schema())
    if isinstance(expected, str):
        return _create(tables, table, actions, schema, _properties(record))
    try:
        handle = expected.tables.delta(expected.name, expected.version)
        if mode == "append":  # an overwrite brings its schema along
            handle = _widened(handle, schema, record)
        base = handle.version()
        handle.create_write_transaction(actions, mode, schema, commit_properties=_properties(record))
    except CommitFailedError as error:
        raise VersionMoved(f"{expected} is not the newest version any more") from error
    return TableVersion(tables, expected.name, base + 1)


def _properties(record: Commit) -> CommitProperties:
    """Compare-and-set: no attempt on top of another's commit."""
    return CommitProperties(custom_metadata=record.custom_metadata(), max_commit_retries=0)


def _widened(handle: DeltaTable, schema: Schema, record: Commit) -> DeltaTable:
    """The table with all columns of the schema: those that an older one lacks are added by a commit of their own.

    Without it delta-rs would append the rows and leave their new columns out, silently.
    """
    there = {field.name for field in handle.schema().fields}
    lacking = [field for field in schema.fields if field.name not in there]
    if not lacking:
        return handle
    added = ColumnsAdded(columns=tuple(field.name for field in lacking))
    record = record.model_copy(update={"stage": "add columns", "inputs": (), "result": added})
    handle.alter.add_columns(lacking, commit_properties=_properties(record))
    return handle


def _create(
    tables: Tables,
    table: type[Table],
    actions: list[AddAction | RemoveAction],
    schema: Schema,
    properties: CommitProperties,
) -> TableVersion:
    """Version 0, with the properties that keep every version readable."""
    configuration = {
        "delta.logRetentionDuration": "interval 36500 days",
        "delta.enableExpiredLogCleanup": "false",
        "delta.dataSkippingStatsColumns": ",".join(table.statistics_columns()),
    }
    name = table.table_name()
    filesystem, root = tables.filesystem()
    filesystem.create_dir(f"{root}/{name}", recursive=True)
    try:
        create_table_with_add_actions(
            tables.path(name),
            schema,
            [action for action in actions if isinstance(action, AddAction)],
            mode="error",
            name=name,
            configuration=configuration,
            storage_options=tables.storage_options,
            commit_properties=properties,
        )
    except DeltaError as error:
        if tables.latest(name) is not None:
            raise VersionMoved(f"{name} was created meanwhile") from error
        raise
    return TableVersion(tables, name, 0)


class Writer:
    """Collects the blocks of one new version; `version` is set once it is committed."""

    def __init__(self, tables: Tables, table: type[Table]) -> None:
        self.files: list[DataFile] = []
        self.result: Record | None = None  # what came out, if that is known only at the end
        self._tables, self._table = tables, table
        self._version: TableVersion | None = None

    def write(self, frame: pl.DataFrame) -> None:
        """Validate and write one block; an empty one is checked and leaves no file."""
        if len(frame):
            self.files.append(write_file(self._tables, self._table, frame))
        else:
            validate(self._table, frame)

    @property
    def version(self) -> TableVersion:
        assert self._version is not None, "read `version` after the with block"
        return self._version

    def _commit(self, lineage: Lineage, mode: Literal["append", "overwrite"], expected: Expected | None) -> None:
        record = lineage.commit(self._tables.invocation, self.result)
        while self._version is None:
            base = expected or self._tables.latest(self._table.table_name()) or ABSENT
            try:
                self._version = commit(self._tables, self._table, self.files, record, mode=mode, expected=base)
            except VersionMoved:
                if expected is not None:
                    raise

    def _discard(self) -> None:
        remove_files(self._tables, self._table, self.files)


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
    mode: Literal["append", "overwrite"] = "append",
    expected: Expected | None = None,
) -> Iterator[Writer]:
    """One new version from the blocks written inside the with; an exception inside commits nothing.

    Args:
        mode: "append" adds rows, "overwrite" makes the blocks the whole table.
        expected: the version that the rows were made against ("absent": no table yet); VersionMoved, with
            nothing committed, when the table has moved on. None: commit after whatever is newest.
    """
    writer = Writer(tables, table)
    try:
        yield writer
    except BaseException:
        writer._discard()
        raise
    try:
        writer._commit(lineage, mode, expected)
    except VersionMoved:
        writer._discard()  # after any other failure the commit may stand: its files must, too
        raise


def replace_rows(
    tables: Tables, table: type[Table], frame: pl.DataFrame, on: Sequence[str], lineage: Lineage
) -> TableVersion:
    """Add rows and take out, in the same commit, the older rows whose `on` values occur among them."""
    rows = frame.select(table.polars_schema().keys()).sort(table.key_columns())
    if tables.latest(table.table_name()) is None:
        try:
            with new_version(tables, table, lineage, expected=ABSENT) as writer:
                writer.write(rows)
            return writer.version
        except VersionMoved:
            pass  # another run made the table meanwhile
    groups = rows.select(on).unique().sort(on).iter_rows()
    same = (
        " AND ".join(f"{name} = {_sql_text(value)}" for name, value in zip(on, group, strict=True)) for group in groups
    )
    predicate = " OR ".join(f"({condition})" for condition in same)
    arrow = validate(table, rows).to_arrow().cast(table.arrow_schema())
    record = lineage.commit(tables.invocation)
    while True:
        try:
            handle = _widened(tables.delta(table.table_name()), Schema.from_arrow(table.arrow_schema()), record)
            write_deltalake(handle, arrow, mode="overwrite", predicate=predicate, commit_properties=_properties(record))
        except CommitFailedError:
            continue  # another commit was faster
        return TableVersion(tables, table.table_name(), handle.version())


def _sql_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
