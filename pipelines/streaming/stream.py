"""What is to be streamed, as its user states it (`Stream`), and what of it is left (`Plan`). No Ray, no commits.

A chunk is a range of the ids in one column.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import polars as pl

from pipelines.storage import QueryRange, Tables, TableVersion
from pipelines.storage.commits import Commit
from pipelines.storage.ranges import bucket_ranges, count_buckets
from pipelines.streaming.config import StreamConfig
from schemas import Table

CHUNKS_PER_ACTOR = 4
"""At least so many chunks for each actor, so that none waits long for the last."""


class Source(Protocol):
    """Where rows come from: a version, or what lies under the root as well."""

    @property
    def tables(self) -> Tables: ...


@dataclass(frozen=True)
class Stream(ABC):
    """Rows of a source, each once through an actor, whose UserError ends the run, into `table`. It must pickle."""

    table: ClassVar[type[Table]]
    id_column: ClassVar[str]  # whose ranges the chunks are
    key: ClassVar[list[str]]  # a row is done when the table has one with this key by the same maker
    maker_column: ClassVar[str]  # of the table; like id_column one of its statistics
    counts: ClassVar[Mapping[str, pl.Expr]] = {}  # over the rows written; summed over a commit for its `record`

    source: Source
    config: StreamConfig
    maker: str  # what `maker_column` says in every row of this stream
    command: str  # goes on where this run stopped

    @abstractmethod
    def rows(self, id_range: QueryRange) -> pl.LazyFrame:
        """Lazily, all rows of a range, whether done or not; they have `id_column` and `key`, as the table's have."""

    def id_ranges(self) -> list[QueryRange]:
        """Ascending ranges that cover all rows, each of so many that their ids fit in memory."""
        return [QueryRange("", "g")]

    def beside(self, rows: pl.DataFrame, id_range: QueryRange, newest: TableVersion | None) -> tuple[pl.DataFrame, ...]:
        """Whatever else an actor needs for the rows that are left of a chunk; `newest` is the table's version."""
        return ()

    @abstractmethod
    def actor(self, threads: int | None) -> Callable[..., pl.DataFrame]:
        """Called once in each actor, for a GPU or so many threads: what makes the table's rows of (rows, *beside)."""

    @abstractmethod
    def record(self, **counts: Any) -> Commit:
        """The record of a commit of so many `rows`, and of these `counts`."""

    def newest(self) -> TableVersion | None:
        """The table's newest version."""
        return self.source.tables.latest(self.table.table_name())

    def left(self, id_range: QueryRange, newest: TableVersion | None) -> pl.LazyFrame:
        """Lazily, the rows of a range that a version of the table lacks."""
        if newest is None:
            return self.rows(id_range)
        by_maker = id_range.contains(self.id_column) & (pl.col(self.maker_column) == pl.lit(self.maker))
        return self.rows(id_range).join(newest.scan().filter(by_maker).select(self.key), on=self.key, how="anti")


class Plan(NamedTuple):
    """What is left of a stream, and how much is done."""

    stream: Stream
    newest: TableVersion | None  # of the table, when this was counted
    buckets: dict[str, int]  # the rows that are left, by ascending bucket
    num_left: int
    num_total: int

    @classmethod
    def of(cls, stream: Stream) -> "Plan":
        """Counted against the table's newest version, from ids alone and range by range, so in bounded memory."""
        newest, buckets, num_total = stream.newest(), dict[str, int](), 0
        for id_range in stream.id_ranges():
            num_total += stream.rows(id_range).select(pl.len()).collect(engine="streaming").item()
            buckets |= count_buckets(stream.left(id_range, newest), stream.id_column)
        return cls(stream, newest, buckets, sum(buckets.values()), num_total)

    @property
    def num_done(self) -> int:
        return self.num_total - self.num_left

    def chunks(self, num_actors: int) -> list[QueryRange]:
        """Ranges of at most `chunk_rows`, smaller when there is little work for many actors."""
        fair = math.ceil(self.num_left / (num_actors * CHUNKS_PER_ACTOR))
        return bucket_ranges(self.buckets, min(self.stream.config.chunk_rows, fair))
