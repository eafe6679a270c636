"""Reading: a root of tables, and explicit versions of them, whole or by query range.

`Tables` is the root (a folder or s3://bucket/prefix); `TableVersion` is one version of one table and prints
as `curated_triplets@7`. The same code serves both kinds of root; credentials come from the environment.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow import fs

from pipelines.stage.errors import UserError
from pipelines.storage.commits import Commit, Result
from schemas import TABLES


class QueryRange(NamedTuple):
    """Query ids from `lower` (inclusive) to `upper` (exclusive), in string order: `("", "g")` is all of them."""

    lower: str
    upper: str

    def contains(self, column: str) -> pl.Expr:
        """Whether an id column lies in the range."""
        return (pl.col(column) >= pl.lit(self.lower)) & (pl.col(column) < pl.lit(self.upper))


class Invocation(NamedTuple):
    """What the command line knows of a command, for every commit that the command makes."""

    recipe: dict[str, Any] | None = None  # resolved, whole
    note: str = ""


NO_COMMAND = Invocation()


@dataclass(frozen=True)
class Tables:
    """The root under which all tables and models lie."""

    uri: str
    invocation: Invocation = field(default=NO_COMMAND, compare=False)

    @classmethod
    def at(cls, root: str, invocation: Invocation = NO_COMMAND) -> "Tables":
        """A root from what the user typed: made absolute, and refused when it cannot hold tables."""
        if root.startswith("s3://"):
            if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=/-]*)?", root):
                raise UserError(f"tables root {root!r} is no bucket URI; expected s3://bucket/prefix")
            return cls(root.rstrip("/"), invocation)
        if "://" in root:
            raise UserError(f"tables root {root!r} has an unknown scheme; expected a folder or s3://bucket/prefix")
        folder = Path(root).expanduser().absolute()
        for parent in (folder, *folder.parents):
            if parent.exists() and not parent.is_dir():
                raise UserError(f"tables root {folder}: {parent} is a file; expected a folder (existing or new)")
        return cls(str(folder), invocation)

    def path(self, *parts: str) -> str:
        """`uri` joined with parts: `tables.path("models", name)`."""
        return "/".join([self.uri, *parts])

    @property
    def is_local(self) -> bool:
        return not self.uri.startswith("s3://")

    @property
    def storage_options(self) -> dict[str, str]:
        """What delta-rs and polars need to reach the root; never written anywhere."""
        return {} if self.is_local else {key: value for key, value in os.environ.items() if key.startswith("AWS_")}

    def filesystem(self) -> tuple[fs.FileSystem, str]:
        """The root's pyarrow filesystem and its path there."""
        if self.is_local:
            return fs.LocalFileSystem(), self.uri
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        scheme, _, host = endpoint.rpartition("://")
        s3 = fs.S3FileSystem(
            endpoint_override=host or None,
            scheme=scheme or "https",
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        )
        return s3, self.uri.removeprefix("s3://")

    def delta(self, name: str, version: int | None = None) -> DeltaTable:
        """The Delta table itself, for pipelines/storage only."""
        return DeltaTable(self.path(name), version=version, storage_options=self.storage_options)

    def latest(self, name: str) -> "TableVersion | None":
        """The newest version of a table; None when there is none yet."""
        if name not in TABLES:
            raise UserError(f"{name!r} is no table; expected one of {', '.join(TABLES)}")
        try:
            return TableVersion(self, name, self.delta(name).version())
        except TableNotFoundError:
            return None
        except DeltaError as error:
            found = str(error).splitlines()[0]
            raise UserError(
                f"the log of {self.path(name)} is damaged ({found}); expected a Delta table: restore its _delta_log "
                "from a copy, or use another root"
            ) from error

    def parse(self, text: str) -> "TableVersion":
        """A version from its printed form, `curated_triplets@7`. Raises UserError when there is no such version."""
        if not (match := re.fullmatch(r"([a-z_]+)@([0-9]+)", text)):
            raise UserError(f"{text!r} is no table version; expected TABLE@VERSION, for example curated_triplets@7")
        parsed = TableVersion(self, match[1], int(match[2]))
        newest = self.latest(parsed.name)
        if newest is None:
            found = ", ".join(self.names())
            hint = f"found {found}" if found else "found no table there: is --tables (or TABLES) the right root?"
            raise UserError(f"{parsed}: there is no table {parsed.name} under {self.uri}; {hint}")
        if parsed.version > newest.version:
            raise UserError(f"{parsed} does not exist; {parsed.name} has the versions 0 to {newest.version}")
        return parsed

    def names(self) -> list[str]:
        """The tables that exist under the root, in the order of the flow."""
        return [name for name in TABLES if self.latest(name) is not None]


@dataclass(frozen=True)
class TableVersion:
    """One version of one table: what every stage reads and every stage returns."""

    tables: Tables
    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def delta(self) -> DeltaTable:
        """The Delta table at this version, for pipelines/storage only."""
        try:
            return self.tables.delta(self.name, self.version)
        except DeltaError as error:
            raise UserError(f"{self} cannot be read: {error}") from error

    def scan(self) -> pl.LazyFrame:
        """The rows of exactly this version, lazily, with the columns of today's schema first: null where it is older.

        Raises:
            UserError: the version lacks a column that is never null.
        """
        table = TABLES[self.name]
        options = self.tables.storage_options or None
        rows = pl.scan_delta(self.tables.path(self.name), version=self.version, storage_options=options)
        schema, found = table.polars_schema(), rows.collect_schema().names()
        if lacking := schema.keys() - found - table.nullable_columns():
            raise UserError(f"{self} has no column {', '.join(sorted(lacking))}; expected {', '.join(schema)}")
        nulls = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in found]
        return rows.with_columns(nulls).select(*schema, *(name for name in found if name not in schema))

    def query_ranges(self, max_rows: int) -> list[QueryRange]:
        """Ascending, disjoint ranges that cover all rows, of at most `max_rows` where no bucket alone is larger.

        A range holds all rows of its queries, and files outside it are skipped by their statistics.
        """
        return bucket_ranges(count_buckets(self.scan()), max_rows)

    def read_by_query_range(self, max_rows: int) -> Iterator[pl.DataFrame]:
        """The whole version in frames of about `max_rows`; all rows of a query stand in one frame."""
        for query_range in self.query_ranges(max_rows):
            yield self.scan().filter(query_range.contains("query_id")).collect()

    @cached_property
    def commit(self) -> Commit:
        """What the commit that made this version says, from its own log entry.

        Not by DeltaTable.history: at an older version, and while others commit, that gives entries the numbers of
        other versions (deltalake 1.6.6).
        """
        filesystem, root = self.tables.filesystem()
        try:
            with filesystem.open_input_file(f"{root}/{self.name}/_delta_log/{self.version:020}.json") as entry:
                actions = [json.loads(line) for line in entry.read().splitlines() if b'"commitInfo"' in line]
        except FileNotFoundError as error:
            raise UserError(
                f"{self} has no commit in the table's log; was the log cleaned by another program?"
            ) from error
        return Commit.of_log(next((action["commitInfo"] for action in actions if "commitInfo" in action), None))

    def history(self) -> "Iterator[TableVersion]":
        """This version and its predecessors, newest first, as far as the log still has their entries."""
        filesystem, root = self.tables.filesystem()
        entries = filesystem.get_file_info(fs.FileSelector(f"{root}/{self.name}/_delta_log"))
        logged = {int(match[1]) for entry in entries if (match := re.fullmatch(r"(\d{20})\.json", entry.base_name))}
        for number in sorted(logged, reverse=True):
            if number <= self.version:
                yield TableVersion(self.tables, self.name, number)

    def results(self, kind: type[Result]) -> "Iterator[tuple[TableVersion, Result]]":
        """Of this version and its predecessors, newest first, those whose stage reports this kind of result."""
        for version in self.history():
            if (result := version.commit.reports(kind)) is not None:
                yield version, result

    def origin(self) -> "TableVersion":
        """This version, or the one whose rows it holds in other files: a compaction is looked through."""
        version = self
        while version.version and version.commit.keeps_rows:
            version = TableVersion(self.tables, self.name, version.version - 1)
        return version

    def written(self) -> "TableVersion":
        """`origin`, written by this system. Raises UserError where another program changed rows."""
        version = self.origin()
        if not version.commit.is_ours:
            raise UserError(
                f"{version} was made by another program ({version.commit.operation or 'unknown operation'}), expected "
                f"a version that this system wrote: `python -m jobs history {self.name}` lists them"
            )
        return version

    def identity(self) -> dict[str, str]:
        """Version, Delta table id and a digest of the version's files: a root made anew is not the same data."""
        files = sorted(f"{row['path']}:{row['size_bytes']}" for row in self.files())
        digest = hashlib.sha256("\n".join(files).encode()).hexdigest()[:12]
        return {"version": str(self), "table_id": str(self.delta.metadata().id), "digest": digest}

    def files(self) -> list[dict[str, Any]]:
        """One entry per data file: path, size_bytes, num_records, min.COLUMN, max.COLUMN, null_count.COLUMN."""
        rows: list[dict[str, Any]] = pa.table(self.delta.get_add_actions(flatten=True)).to_pylist()
        return rows

    def num_rows(self) -> int:
        """Rows of this version, from the files' statistics."""
        return sum(row["num_records"] for row in self.files())


def count_buckets(rows: pl.LazyFrame, id_column: str = "query_id") -> dict[str, int]:
    """The rows in each bucket, ascending: the first three hex digits of an id, so independent of files and versions."""
    counts = rows.group_by(bucket=pl.col(id_column).str.head(3)).len().sort("bucket")
    return dict(counts.collect(engine="streaming").iter_rows())


def bucket_ranges(counts: Mapping[str, int], max_rows: int) -> list[QueryRange]:
    """Group neighbouring buckets into ranges of at most `max_rows`, of at least one bucket."""
    ranges: list[QueryRange] = []
    total = 0
    for bucket, rows in counts.items():
        total += rows
        if not ranges or total > max_rows:
            ranges.append(QueryRange(bucket, ""))
            total = rows
        ranges[-1] = ranges[-1]._replace(upper=f"{bucket}g")  # no hex digit is above "g"
    return ranges
