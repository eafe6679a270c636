"""One version of one table: its rows, its commit, what it was made from, and whether a stage may take it.

    version = tables.parse("curated_triplets@7");  version.usable().scan();  version.commit;  version.origin()

A compaction and another program's RESTORE are looked through; where a version's files are gone, the same rows are
read from the files of another that holds them.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs

from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage.commits import LINEAGE, RESTORE, Commit, Result
from pipelines.storage.erased import Replaced, in_their_place, replaced_files, steps_from
from pipelines.storage.ranges import QueryRange, bucket_ranges, count_buckets
from pipelines.storage.readability import OUTSIDE, empty_entry, first_line, why_damaged, why_unreadable
from pipelines.storage.shown import shown
from schemas import TABLES

if TYPE_CHECKING:
    from pipelines.storage.tables import Tables


@dataclass(frozen=True)
class TableVersion:
    """One version of one table: what every stage reads and every stage returns."""

    tables: "Tables"
    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def __repr__(self) -> str:
        return f"<{self} under {self.tables.uri}>"

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        return shown(self)

    def __getstate__(self) -> dict[str, Any]:
        """All but the opened table, which stays in its process; what was found out about the files goes along."""
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}

    @cached_property
    def _opened(self) -> DeltaTable:
        """The log is read once for all that is asked of this version. Raises DeltaError."""
        return self.tables.delta(self.name, self.version)

    @property
    def delta(self) -> DeltaTable:
        """The Delta table at this version, for pipelines/storage only, which must not commit by it."""
        try:
            return self._opened
        except DeltaError as error:
            raise UserError(f"{self} cannot be opened ({first_line(error)}); {self.way_out()}") from error

    def open(self) -> pl.LazyFrame:
        """What lies there as this version, lazily and unchecked, for pipelines/storage only."""
        options = self.tables.polars_options
        rows = pl.scan_delta(self._opened, storage_options=options)
        if not self._replaced or not any(steps_from(file["path"], self._replaced) for file in self.logged_files()):
            return rows
        return self.scan_files([file["path"] for file in self.files()])

    def scan_files(self, paths: Sequence[str]) -> pl.LazyFrame:
        """The rows of some of this version's files, with its columns, for pipelines/storage only."""
        options = self.tables.polars_options
        schema = pl.scan_delta(self._opened, storage_options=options).collect_schema()
        if not paths:
            return pl.LazyFrame(schema=schema)
        found = [path if OUTSIDE.match(path) else self.tables.path(self.name, unquote(path)) for path in paths]
        return pl.scan_parquet(
            found, schema=schema, glob=False, storage_options=options, missing_columns="insert", extra_columns="ignore"
        )

    def scan(self) -> pl.LazyFrame:
        """The rows of exactly this version, lazily, with the columns of today's schema first: null where it is older.

        Raises:
            UserError: they cannot be read any more: see `rows_in`.
        """
        rows = self.rows_in().open()
        schema, found = TABLES[self.name].polars_schema(), rows.collect_schema().names()
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
    def unreadable(self) -> str | None:
        """What keeps this version's own files from being read; None when nothing does."""
        return why_unreadable(self)

    @cached_property
    def _rows_in(self) -> "TableVersion | None":
        if self.unreadable is None:
            return self
        try:
            alike = (other for other in self._all() if other != self and other.origin() == self.origin())
            return next((other for other in alike if other.unreadable is None), None)
        except UserError:  # a log that does not say which versions hold the same rows
            return None

    def rows_in(self) -> "TableVersion":
        """This version; where its files are gone, one that holds the same rows in other files, which is said.

        Raises:
            UserError: there is none; with what can be read.
        """
        other = self._rows_in
        if other is None:
            raise UserError(f"{self} {self.unreadable}; {self.way_out()}")
        if other != self:
            _say_once(self.tables.uri, f"{self} {self.unreadable}: reading the same rows from the files of {other}")
        return other

    @cached_property
    def foreign(self) -> str | None:
        """Why this version's rows are not those that a stage wrote; None when they are."""
        try:
            origin = self.origin()
        except UserError as error:
            return f"does not say who made it ({error})"
        made_by = origin.commit.operation or "unknown operation"
        return None if origin.commit.is_ours else f"was made by another program ({made_by}), which changed rows"

    @cached_property
    def unusable(self) -> str | None:
        """Why no stage may take this version's rows: another program changed them, or they cannot be read."""
        return self.foreign or why_damaged(self._rows_in) if self._rows_in else self.unreadable

    def usable(self) -> "TableVersion":
        """This version, if a stage may take its rows. Raises UserError with what is wrong and what may be taken."""
        if self.unusable:
            raise UserError(f"{self} {self.unusable}; {self.way_out()}")
        return self

    def way_out(self) -> str:
        """What can be done when this version is not usable: another version, and how to go back to it."""
        path = self.tables.path(self.name)
        others = (one for one in islice(self._all(), 50) if one != self)
        usable = next((one for one in others if one.unusable is None), None)
        if usable is None:
            return f"no other version of it can be taken: bring {path} back from a copy, or use another root"
        restore = f'DeltaTable("{path}").restore({usable.version}), from the package deltalake'
        back = f"to make it the table's newest again: {restore}"
        if entry := empty_entry(self):  # a version made by restore() would have it in its log too
            back = f"bring {path}/_delta_log/{entry} back from a copy"
            newest = self.tables.latest(self.name)
            if newest and newest.version == usable.version + 1:
                back += f", or remove it: what it committed is lost, and {usable} is the table's newest"
        return f"{usable} is the newest other one that can be taken; {back}"

    @cached_property
    def commit(self) -> Commit:
        """What the commit that made this version says, from its own log entry.

        Not by DeltaTable.history: at an older version, and while others commit, that gives entries the numbers of
        other versions (deltalake 1.6.6).
        """
        filesystem, root = self.tables.filesystem()
        entry = f"{self.version:020}.json"
        try:
            with filesystem.open_input_file(f"{root}/{self.name}/_delta_log/{entry}") as file:
                lines = file.read().splitlines()
            info = next((json.loads(line).get("commitInfo") for line in lines if b'"commitInfo"' in line), None)
            if isinstance(info, dict) and LINEAGE in info:
                return Commit.of_log(info)
            actions = [action for line in lines if line.strip() for action in json.loads(line).items()]
            if not actions:
                return Commit(operation="an empty log entry", changes_data=True)
        except FileNotFoundError as error:
            raise UserError(
                f"{self} has no commit in the table's log; was the log cleaned by another program?"
            ) from error
        except (ValueError, AttributeError) as error:
            raise UserError(f"{self}: its entry in the table's log is damaged ({entry})") from error
        changing = (action for kind, action in actions if kind in ("add", "remove"))
        return Commit.of_log(info, changes_data=any(action.get("dataChange", True) for action in changing))

    def history(self) -> "Iterator[TableVersion]":
        """This version and its predecessors, newest first, as far as the log still has their entries."""
        filesystem, root = self.tables.filesystem()
        entries = filesystem.get_file_info(fs.FileSelector(f"{root}/{self.name}/_delta_log"))
        logged = {int(match[1]) for entry in entries if (match := re.fullmatch(r"(\d{20})\.json", entry.base_name))}
        for number in sorted(logged, reverse=True):
            if number <= self.version:
                yield TableVersion(self.tables, self.name, number)

    def _all(self) -> "Iterator[TableVersion]":
        """Every version of the table, newest first."""
        newest = self.tables.latest(self.name)
        return newest.history() if newest else iter(())

    def results(self, kind: type[Result]) -> "Iterator[tuple[TableVersion, Result]]":
        """Of this version and those it was made of, newest first, those whose stage reports this kind of result.

        What another program's RESTORE took back is left out.
        """
        newest = self.version
        for version in self.history():
            if version.version <= newest:
                if (result := version.commit.reports(kind)) is not None:
                    yield version, result
                newest = restored.version if (restored := version._restored()) else newest

    def origin(self) -> "TableVersion":
        """This version, or the one whose rows it holds: a compaction and a RESTORE are looked through."""
        version = self
        while before := version._restored() or version._rearranged():
            version = before
        return version

    def _rearranged(self) -> "TableVersion | None":
        """The version before, if this one holds its rows."""
        return (
            TableVersion(self.tables, self.name, self.version - 1) if self.version and self.commit.keeps_rows else None
        )

    def _restored(self) -> "TableVersion | None":
        """The version that another program went back to by this one, told by its files."""
        if self.commit.operation != RESTORE:
            return None
        digest = self.identity()["digest"]
        older = (version for version in self.history() if version != self)
        return next((version for version in older if version.identity()["digest"] == digest), None)

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
        files = sorted(f"{row['path']}:{row['size_bytes']}" for row in self.logged_files())
        files += sorted(f"{path}:{hashlib.sha256(bytes(kept)).hexdigest()}" for path, kept in self.rows_kept())
        digest = hashlib.sha256("\n".join(files).encode()).hexdigest()[:12]
        return {"version": str(self), "table_id": str(self.delta.metadata().id), "digest": digest}

    def files(self) -> list[dict[str, Any]]:
        """One entry per data file: path, size_bytes, num_records, min.COLUMN, max.COLUMN, null_count.COLUMN.

        Where rows were erased, the files that hold the others.
        """
        return in_their_place(self.logged_files(), self._replaced)

    def num_erased(self, erasure: str = "") -> int:
        """Rows of this version that were erased, by one erasure or by all, in whichever files they lay by then."""
        most = Counter[str]()
        for version in self._held_by() if self._replaced else ():
            counts = Counter[str]()
            for step in (step for file in version.logged_files() for step in steps_from(file["path"], self._replaced)):
                counts[step.erasure] += step.rows
            most |= counts
        return most[erasure] if erasure else most.total()

    def _held_by(self) -> "Iterator[TableVersion]":
        """The version that a stage wrote with these rows, and those after it that only arranged them otherwise."""
        newest, version = self.tables.latest(self.name), self.origin()
        yield version
        while newest and version.version < newest.version:
            version = TableVersion(self.tables, self.name, version.version + 1)
            if not version.commit.keeps_rows:
                return
            yield version

    @cached_property
    def _replaced(self) -> Replaced:
        return replaced_files(self.tables, self.name)

    def logged_files(self) -> list[dict[str, Any]]:
        """As `files`, but as the version was written, for pipelines/storage only."""
        rows: list[dict[str, Any]] = pa.table(self.delta.get_add_actions(flatten=True)).to_pylist()
        return rows

    def added_after(self, base: "TableVersion | None") -> list[dict[str, Any]]:
        """The files of this version that brought rows after `base`, as `files` has them; a compaction brings none."""
        known = {file["path"] for file in base.files()} if base else set()
        added = [file for file in self.files() if file["path"] not in known]
        since = [version for version in self.history() if base is None or version.version > base.version]
        if not added or not any(version.commit.keeps_rows for version in since):
            return added
        rows = []
        for version in reversed(since):  # a compaction's files hold old rows and new ones: those before it tell
            files = {file["path"]: file for file in version.files()}
            rows += [files[path] for path in files.keys() - known if not version.commit.keeps_rows]
            known |= files.keys()
        return rows

    def num_rows(self) -> int:
        """Rows of this version, from the files' statistics where these tell."""
        counts = [row["num_records"] for row in self.files()]
        if None in counts or self.rows_kept():
            return int(self.scan().select(pl.len()).collect(engine="streaming").item())
        return sum(counts)

    def rows_kept(self) -> list[tuple[str, list[bool]]]:
        """Of each file with a deletion vector, by another program: its path and which rows are left."""
        delta = self.delta
        if "deletionVectors" not in (delta.protocol().reader_features or ()):
            return []
        vectors = pa.table(delta.deletion_vectors()).to_pylist()
        return [(row["filepath"].rpartition("/")[2], row["selection_vector"]) for row in vectors]


@cache
def _say_once(root: str, line: str) -> None:
    """However often a version is opened."""
    tell(line)
