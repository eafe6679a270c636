"""Reading: a root of tables, and explicit versions of them, whole or by query range.

`Tables` is the root (a folder or s3://bucket/prefix); `TableVersion` is one version of one table and prints
as `curated_triplets@7`. The same code serves both kinds of root; credentials come from the environment.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from obstore.store import LocalStore, S3Store
from pyarrow import fs

from pipelines.stage.errors import UserError
from pipelines.stage.paths import folder_of
from pipelines.stage.progress import tell
from pipelines.storage.commits import LINEAGE, RESTORE, Commit, Input, Result
from pipelines.storage.erased import Replaced, in_their_place, replaced_files, steps_from
from pipelines.storage.readability import OUTSIDE, first_line, why_damaged, why_foreign, why_unreadable, why_unwritable
from pipelines.storage.tags import find_tag
from schemas import TABLES

ADDED_TO = {"triplets", "scored_triplets", "teacher_vectors"}
"""Tables of which every row is answered for, and to which rows are added: not on top of another program's."""

WHOLE = {"curated_triplets", "dropped_triplets"}
"""Tables of which every version is whole: what the version before holds does not matter to the next."""


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

NOT_HELD = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|%[0-9A-Fa-f]{2}")
"""What deltalake 1.6.6 cannot have in a folder's path: it refuses it, or writes `a%20b` and reads `a b`."""

NOT_HELD_ON_S3 = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]|%[0-9A-Fa-f]{2}|//|(^|/)\.{1,2}(/|$)"
)
"""The same in a prefix, whose URL we quote; what paths in URLs leave out, and what the XML of a listing does."""


class _Table(DeltaTable):
    """A Delta table whose files polars finds: deltalake names them as in a URL, `a%20b`, and polars takes `a b`."""

    def file_uris(self, *args: Any, **kwargs: Any) -> list[str]:
        return [unquote(uri) for uri in super().file_uris(*args, **kwargs)]

    def deletion_vectors(self) -> Any:
        return pl.DataFrame(super().deletion_vectors()).with_columns(
            pl.col("filepath").map_elements(unquote, return_dtype=pl.String)
        )


@dataclass(frozen=True)
class Tables:
    """The root under which all tables and models lie."""

    uri: str
    invocation: Invocation = field(default=NO_COMMAND, compare=False)

    @classmethod
    def at(cls, root: str, invocation: Invocation = NO_COMMAND) -> "Tables":
        """A root from what the user typed: made absolute, and refused when it cannot hold tables."""
        if root.startswith("s3://"):
            bucket, _, prefix = root.removeprefix("s3://").rstrip("/").partition("/")
            if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
                raise UserError(f"{root!r} is no bucket URI; expected s3://bucket/prefix")
            _refuse_what_is_not_held(prefix, NOT_HELD_ON_S3)
            return cls(root.rstrip("/"), invocation)
        if "://" in root:
            raise UserError(f"tables root {root!r} has an unknown scheme; expected a folder or s3://bucket/prefix")
        folder = folder_of(root, "tables root")
        _refuse_what_is_not_held(str(folder.resolve()), NOT_HELD)  # deltalake follows links
        return cls(str(folder), invocation)

    def path(self, *parts: str) -> str:
        """`uri` joined with parts: `tables.path("models", name)`."""
        return "/".join([self.uri, *parts])

    def url(self, *parts: str) -> str:
        """`path` as deltalake and obstore take it: on S3 they read a URL."""
        return self.path(*parts) if self.is_local else quote(self.path(*parts), safe=":/")

    @property
    def is_local(self) -> bool:
        return not self.uri.startswith("s3://")

    @property
    def takes_predicates(self) -> bool:
        """Whether deltalake can replace rows by a predicate: with these in a folder's path it panics (1.6.6)."""
        return not (self.is_local and re.search(r"[\[\]^|]", str(Path(self.uri).resolve())))

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

    def store(self, *parts: str) -> LocalStore | S3Store:
        """A folder under the root as obstore sees it, which puts a file there whole, or only where there is none."""
        return LocalStore(self.path(*parts), mkdir=True) if self.is_local else S3Store.from_url(self.url(*parts))

    def delta(self, name: str, version: int | None = None) -> DeltaTable:
        """The Delta table itself, for pipelines/storage only."""
        return _Table(self.url(name), version=version, storage_options=self.storage_options)

    def latest(self, name: str) -> "TableVersion | None":
        """The newest version of a table; None when there is none yet."""
        if name not in TABLES:
            raise UserError(f"{name!r} is no table; expected one of {', '.join(TABLES)}")
        try:
            return TableVersion(self, name, self.delta(name).version())
        except TableNotFoundError:
            if self.is_local and Path(self.path(name)).is_symlink() and not Path(self.path(name)).exists():
                raise UserError(f"{self.path(name)} is a link to nothing; is its disk there?") from None
            return None
        except DeltaError as error:
            found = first_line(error)
            if "Unsupported" in found:
                raise UserError(
                    f"another program upgraded {self.path(name)} beyond what delta-rs reads ({found}); take that back "
                    "(ALTER TABLE ... DROP FEATURE in Spark), or use another root"
                ) from error
            raise UserError(
                f"the log of {self.path(name)} is damaged ({found}); expected a Delta table: restore its _delta_log "
                "from a copy, or use another root"
            ) from error

    def parse(self, text: str) -> "TableVersion":
        """A version from its printed form, `curated_triplets@7`, or a tag. Raises UserError when there is none such."""
        if tag := find_tag(self, text):
            return self.recorded(tag.version)
        if not (match := re.fullmatch(r"([a-z_]+)@([0-9]+)", text)):
            raise UserError(
                f"{text!r} is no table version; expected TABLE@VERSION, for example curated_triplets@7, or a tag"
            )
        parsed = TableVersion(self, match[1], int(match[2]))
        newest = self.latest(parsed.name)
        if newest is None:
            found = ", ".join(self.names())
            hint = f"found {found}" if found else "found no table there: is --tables (or TABLES) the right root?"
            raise UserError(f"{parsed}: there is no table {parsed.name} under {self.uri}; {hint}")
        if parsed.version > newest.version:
            raise UserError(
                f"{parsed} does not exist; {parsed.name} has the versions 0 to {newest.version}, which "
                f"`python -m jobs history {parsed.name}` lists"
            )
        return parsed

    def recorded(self, read: Input) -> "TableVersion":
        """A version that was read, as a commit recorded it. Raises UserError when the table was made anew since."""
        latest = self.latest(read.version.partition("@")[0])
        found = str(latest.delta.metadata().id) if latest else read.table_id
        if read.table_id and found != read.table_id:
            raise UserError(
                f"{read.version} was of the Delta table {read.table_id}, found {found}: the table was made anew. "
                "Use the root in which it was read, or run the stages after it again"
            )
        return self.parse(read.version)

    def newest(self, name: str, is_right: "Callable[[TableVersion], bool]" = lambda _: True) -> "TableVersion | None":
        """The newest version that stages may read and that is the right one; None when none was ever right.

        It is the version that this system wrote: what another program only rearranged is looked through. Newer ones
        that cannot be read, or whose rows another program changed, are passed over and said.

        Raises:
            UserError: there are right ones, and none of them may be read.
        """
        latest, passed = self.latest(name), dict[str, str]()
        for version in latest.history() if latest else ():
            if version.foreign is None and not is_right(version.origin()):
                continue
            if version.unusable is None:
                for other, reason in passed.items():
                    tell(f"passing over {other}, which {reason}")
                return version.origin()
            passed[str(version)] = version.unusable
        if passed:
            told = "; ".join(f"{other} {reason}" for other, reason in list(passed.items())[:3])
            raise UserError(
                f"no version of {name} can be used: {told}; bring {self.path(name)} back from a copy, or use another "
                "root"
            )
        return None

    def check_writable(self, *names: str) -> None:
        """Refuse tables that rows cannot be added to, before the work that makes the rows. Raises UserError."""
        for name in names:
            newest = self.latest(name)
            if newest is None:
                continue
            if why := why_unwritable(newest):
                raise UserError(
                    f"nothing can be written to {self.path(name)}: {newest} {why}; take back what the other program "
                    "did (a feature: ALTER TABLE ... DROP FEATURE in Spark), bring the log back from a copy, or use "
                    "another root"
                )
            why = (newest.unreadable or why_damaged(newest)) if name not in WHOLE else why_foreign(newest)
            if why := why or (newest.foreign if name in ADDED_TO else None):
                raise UserError(f"nothing can be added to {self.path(name)}: {newest} {why}; {newest.way_out()}")

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
        options = self.tables.storage_options or None
        rows = pl.scan_delta(self._opened, storage_options=options)
        if not self._replaced or not any(steps_from(file["path"], self._replaced) for file in self.logged_files()):
            return rows
        return self.scan_files([file["path"] for file in self.files()])

    def scan_files(self, paths: Sequence[str]) -> pl.LazyFrame:
        """The rows of some of this version's files, with its columns, for pipelines/storage only."""
        options = self.tables.storage_options or None
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
        return (
            f"{usable} is the newest other one that can be taken; to make it the table's newest again: "
            f'DeltaTable("{path}").restore({usable.version}), from the package deltalake'
        )

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


def _refuse_what_is_not_held(path: str, not_held: re.Pattern[str]) -> None:
    """Raise UserError for a path that the Delta library would take for another one."""
    if match := not_held.search(path):
        raise UserError(
            f"{path!r} can be no root: {match[0]!r} in it means something else to the Delta library; expected a path "
            "without \\, control characters and % before two hex digits, on S3 also without //, . and .. as a segment"
        )


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
