"""A table of answers: what is left to ask, and finished rows into it, each key once for a model.

Rows are compared with the newest version and committed on top of exactly that one, or compared again: of two runs that
ask the same, the row that comes second is left out. A row whose endpoint failed gives way to any later one, which takes
over what the earlier tries cost. The last commit holds no rows: it says for what all rows are there.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import polars as pl

from pipelines.asking.rows import ENDPOINT_ERROR, Key, Row, Seed
from pipelines.storage import Lineage, Tables, TableVersion, VersionMoved, commit, new_version, replace_rows
from pipelines.storage.commits import AskingResult, Record
from schemas import Table

PAID = ["calls", "input_tokens", "output_tokens"]
IS_FAILED = pl.col("reason").eq_missing(ENDPOINT_ERROR)


class Plan(NamedTuple):
    """What a run finds."""

    wanted: int  # that are to have a row
    seeds: list[Seed]  # without one, or whose endpoint failed; in the order of what is wanted
    done: pl.DataFrame  # of the wanted: as `Book.rows`
    spent: tuple[int, int, int]  # rows, input and output tokens of all this model's rows
    version: TableVersion | None = None  # that this was read from
    untold: int = 0  # of this model's rows, those of which the endpoint did not say what they cost

    @property
    def at_least(self) -> str | None:
        """How `spent` is to be told: as it is, as a least, or None: not at all, as the endpoint says nothing."""
        if self.untold and not any(self.spent[1:]):
            return None
        return "at least " if self.untold else ""

    @property
    def num_unasked(self) -> int:
        return sum(not seed.is_again for seed in self.seeds)


class Committed(NamedTuple):
    rows: int
    compared_with: TableVersion | None  # the newest version before
    version: TableVersion | None  # that has these rows and those of `compared_with`; None: and perhaps others'


class Known(NamedTuple):
    """What need not be read again as long as nobody else commits."""

    version: TableVersion | None
    failed: frozenset[Key]  # of the keys that are asked, those that have a row there, all of failed tries


class Describe(Protocol):
    """The lineage of a commit that reports these fields of its stage's result."""

    def __call__(self, **result: Any) -> Lineage: ...


@dataclass(frozen=True)
class Book:
    """One model's rows of a table."""

    tables: Tables
    table: type[Table]
    role: str  # the column that says whose a row is
    who: str
    describe: Describe
    more: tuple[str, ...] = ()  # further columns that `rows` reads

    @property
    def key(self) -> list[str]:
        """The columns of a row's key, beside whose it is."""
        return [name for name in self.table.key_columns() if name != self.role]

    @property
    def name(self) -> str:
        return self.table.table_name()

    def rows(self, version: TableVersion | None) -> pl.DataFrame:
        """Key, reason, PAID and `more` of this model's rows."""
        columns = [*self.key, "reason", *PAID, *self.more]
        if version is None:
            return pl.DataFrame(schema={name: self.table.polars_schema()[name] for name in columns})
        return version.scan().filter(pl.col(self.role) == self.who).select(columns).collect()

    def plan(self, wanted: pl.DataFrame) -> Plan:
        """Of what is wanted (its key, and what a seed is to hold), what this model has not answered."""
        version = self.tables.latest(self.name)
        there = self.rows(version)
        left = wanted.join(there.filter(~IS_FAILED), on=self.key, how="anti", maintain_order="left")
        left = left.join(there.select(*self.key, *PAID), on=self.key, how="left", maintain_order="left")
        names, whose = wanted.columns, {self.role: self.who}
        seeds = [
            Seed(_part(row, self.key), whose | {name: row[name] for name in names}, _paid(row), _is_there(row))
            for row in left.iter_rows(named=True)
        ]
        done = there.filter(~IS_FAILED).join(wanted, on=self.key, how="semi")
        tokens = there.select(pl.col("input_tokens", "output_tokens").fill_null(0).sum()).row(0)
        untold = there.select((pl.col("input_tokens").is_null() | pl.col("output_tokens").is_null()).sum()).item()
        return Plan(len(wanted), seeds, done, (len(there), *tokens), version, untold)

    def frame(self, rows: Sequence[Row], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Finished rows as a frame of some of the table's columns, or all."""
        schema = self.table.polars_schema()
        schema = {name: schema[name] for name in columns or schema}
        return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)

    def commit(self, rows: Sequence[Row], known: Known | None = None) -> Committed:
        """Commit those that are new."""
        on = self.table.key_columns()
        frame = self.frame(rows).sort(on)
        while True:
            version = base = self.tables.latest(self.name)
            there = self._there(base, frame.select(self.key), known)
            new = frame.join(there, on=self.key, how="anti", maintain_order="left")
            better = frame.filter(~IS_FAILED).join(there.filter(IS_FAILED), on=self.key, how="semi")
            with suppress(VersionMoved):
                if len(new):
                    with new_version(self.tables, self.table, self._counted(new), expected=base) as writer:
                        writer.write(new)
                    version = writer.version
                if len(better):
                    replaced = replace_rows(self.tables, self.table, better, on, self._counted(better))
                    version = replaced if version and replaced.version == version.version + 1 else None
                return Committed(len(new) + len(better), base, version)

    def answered(self, version: TableVersion | None) -> set[Key]:
        """What has a row there that is not of a failed try."""
        return set(self.rows(version).filter(~IS_FAILED).select(self.key).iter_rows())

    def completed(self, complete: Record, *, is_newest: bool) -> TableVersion | None:
        """The version that says so; `is_newest`: and after which this model got no row."""
        newest = self.tables.latest(self.name)
        for version, result in newest.results(AskingResult) if newest else ():
            if result.complete == complete and version.unusable is None:
                return version
            if is_newest and getattr(result, self.role) == self.who and result.complete is None:
                return None
        return None

    def complete(self, complete: Record, told: Callable[[TableVersion], object]) -> TableVersion:
        """The version whose commit says that all rows are there; made now unless it is, which is `told`."""
        while True:
            if version := self.completed(complete, is_newest=True):
                told(version)
                return version
            base = self.tables.latest(self.name)
            record = self.describe(complete=complete).commit(self.tables.invocation)
            with suppress(VersionMoved):
                return commit(self.tables, self.table, [], record, mode="append", expected=base)

    def _there(self, version: TableVersion | None, keys: pl.DataFrame, known: Known | None) -> pl.DataFrame:
        """This model's rows of some keys: key and reason."""
        columns = [*self.key, "reason"]
        if version is None or keys.is_empty():
            return self.rows(None).select(columns)
        if known and known.version == version:
            is_failed = pl.Series([key in known.failed for key in keys.iter_rows()], dtype=pl.Boolean)
            return keys.filter(is_failed).with_columns(reason=pl.lit(ENDPOINT_ERROR))
        first = keys[self.key[0]]
        near = pl.col(self.key[0]).is_between(pl.lit(first.min()), pl.lit(first.max()))
        rows = version.scan().filter((pl.col(self.role) == self.who) & near)
        return rows.select(columns).collect().join(keys, on=self.key, how="semi")

    def _counted(self, rows: pl.DataFrame) -> Lineage:
        counted = rows.select(
            pl.col("reason").count().alias("failures"),
            *(
                pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name)
                for name in ("input_tokens", "output_tokens")
            ),
        ).row(0, named=True)
        return self.describe(rows=len(rows), **counted)


def _part(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _is_there(row: Row) -> bool:
    return row["calls"] is not None


def _paid(row: Row) -> tuple[int, int | None, int | None]:
    """Of earlier tries; what was never asked has cost nothing."""
    return (row["calls"], row["input_tokens"], row["output_tokens"]) if _is_there(row) else (0, 0, 0)
