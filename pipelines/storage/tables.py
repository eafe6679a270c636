"""A root of tables, a folder or s3://bucket/prefix, and how a version of one is found there.

    tables = Tables.at("s3://bucket/prefix");  tables.newest("curated_triplets");  tables.parse("curated_triplets@7")

The same code serves both kinds of root; credentials come from the environment.
"""

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import obstore
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store
from pyarrow import fs

from pipelines.stage.errors import UserError
from pipelines.stage.paths import folder_of
from pipelines.stage.progress import tell
from pipelines.storage import outages
from pipelines.storage.commits import Input
from pipelines.storage.readability import first_line, why_damaged, why_foreign, why_unwritable
from pipelines.storage.shown import shown_root
from pipelines.storage.tags import find_tag
from pipelines.storage.versions import TableVersion
from schemas import TABLES

ADDED_TO = {"generated_queries", "triplets", "scored_triplets", "teacher_vectors", "passage_judgements"}
"""Tables of which every row is answered for, and to which rows are added: not on top of another program's."""

WHOLE = {"curated_triplets", "dropped_triplets"}
"""Tables of which every version is whole: what the version before holds does not matter to the next."""


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
    outage_s: float = field(default=outages.OUTAGE_S, compare=False)  # that an object store is waited for

    def __repr__(self) -> str:
        """Without the recipe and note of its commits, and nothing of how the root is reached."""
        return f"<tables under {self.uri}>"

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        return shown_root(self)

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
        """What delta-rs needs to reach the root; never written anywhere."""
        return {} if self.is_local else _credentials() | outages.delta_retries(self.outage_s)

    @property
    def polars_options(self) -> dict[str, Any] | None:
        """The same for polars."""
        return None if self.is_local else {**_credentials(), **outages.polars_retries(self.outage_s)}

    def filesystem(self) -> tuple[fs.FileSystem, str]:
        """The root's pyarrow filesystem and its path there."""
        if self.is_local:
            return fs.LocalFileSystem(), self.uri
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        scheme, _, host = endpoint.rpartition("://")
        s3 = outages.ArrowS3(
            self.outage_s,
            endpoint_override=host or None,
            scheme=scheme or "https",
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        )
        return s3, self.uri.removeprefix("s3://")

    def store(self, *parts: str) -> LocalStore | S3Store:
        """A folder under the root as obstore sees it, which puts a file there whole, or only where there is none."""
        if self.is_local:
            return LocalStore(self.path(*parts), mkdir=True)
        return S3Store.from_url(self.url(*parts), retry_config=outages.obstore_retries(self.outage_s))

    def answering(self) -> "Tables":
        """This root, asked once with little patience: a wrong address or key is told at once. Raises OSError."""
        if self.is_local:
            return self
        store = S3Store.from_url(self.url(), retry_config=outages.obstore_retries(outages.HASTE_S))
        if why := _why_unlisted(store):
            raise OSError(f"{self.uri} cannot be listed: {why}; check the root and AWS_* (endpoint, region, keys)")
        return self

    def delta(self, name: str, version: int | None = None) -> DeltaTable:
        """The Delta table itself, for pipelines/storage only."""
        return _Table(self.url(name), version=version, storage_options=self.storage_options)

    def latest(self, name: str) -> TableVersion | None:
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

    def parse(self, text: str) -> TableVersion:
        """A version from its printed form, `curated_triplets@7`, or a tag. Raises UserError when there is none such."""
        if tag := find_tag(self, text):
            return self.recorded(tag.version)
        if not (match := re.fullmatch(r"([a-z_]+)@([0-9]+)", text)):
            newest = self.latest(text) if text in TABLES else None
            example = newest or "curated_triplets@7"
            raise UserError(f"{text!r} is no table version; expected TABLE@VERSION, for example {example}, or a tag")
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

    def recorded(self, read: Input) -> TableVersion:
        """A version that was read, as a commit recorded it. Raises UserError when the table was made anew since."""
        latest = self.latest(read.version.partition("@")[0])
        found = str(latest.delta.metadata().id) if latest else read.table_id
        if read.table_id and found != read.table_id:
            raise UserError(
                f"{read.version} was of the Delta table {read.table_id}, found {found}: the table was made anew. "
                "Use the root in which it was read, or run the stages after it again"
            )
        return self.parse(read.version)

    def newest(self, name: str, is_right: Callable[[TableVersion], bool] = lambda _: True) -> TableVersion | None:
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

    def existing(self) -> list[str]:
        """The same, at least one. Raises UserError."""
        if names := self.names():
            return names
        raise UserError(f"there is no table under {self.uri}; is --tables (or TABLES) the right root?")


def _refuse_what_is_not_held(path: str, not_held: re.Pattern[str]) -> None:
    """Raise UserError for a path that the Delta library would take for another one."""
    if match := not_held.search(path):
        raise UserError(
            f"{path!r} can be no root: {match[0]!r} in it means something else to the Delta library; expected a path "
            "without \\, control characters and % before two hex digits, on S3 also without //, . and .. as a segment"
        )


def _credentials() -> dict[str, str]:
    """What of the environment says how an object store is reached."""
    return {key: value for key, value in os.environ.items() if key.startswith("AWS_")}


def _why_unlisted(store: S3Store) -> str | None:
    """What a store says that cannot be listed; in a thread, since it may accept a question and never answer."""
    said: SimpleQueue[str | None] = SimpleQueue()

    def listed() -> None:
        try:
            next(iter(obstore.list(store, chunk_size=1)), None)
            said.put(None)
        except BaseError as error:
            said.put(str(error).partition("\n\nDebug source")[0])

    threading.Thread(target=listed, daemon=True).start()
    try:
        return said.get(timeout=3 * outages.HASTE_S)
    except Empty:
        return f"no answer in {3 * outages.HASTE_S:g} s"
