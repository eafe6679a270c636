"""What is left to ask, and finished rows into generated_queries, each passage once for a generator.

Rows are compared with the newest version and committed on top of exactly that one, or compared again: of two runs that
ask the same passage, the row that comes second is left out. A row whose endpoint failed gives way to any later one,
which takes over what the earlier tries cost.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import polars as pl

from pipelines.generation.config import GenerateConfig
from pipelines.generation.rows import ENDPOINT_ERROR, Row, Seed
from pipelines.storage import Lineage, Tables, TableVersion, VersionMoved, new_version, replace_rows
from pipelines.storage.commits import GenerationResult, IngestedFile
from schemas import GeneratedQueries

TABLE = GeneratedQueries.table_name()
KEY = GeneratedQueries.key_columns()
PAID = ["calls", "input_tokens", "output_tokens"]


class Plan(NamedTuple):
    """What a run finds."""

    wanted: int  # passages that are to have a row
    seeds: list[Seed]  # without one, or whose endpoint failed; by passage id
    done: pl.DataFrame  # of the wanted: passage_id, reason and PAID
    spent: tuple[int, int, int]  # passages, input and output tokens of all this generator's rows
    version: TableVersion | None = None  # that this was read from

    @property
    def num_unasked(self) -> int:
        return sum(not seed.is_again for seed in self.seeds)


def plan(tables: Tables, passages: pl.DataFrame, config: GenerateConfig) -> Plan:
    """Of these passages (by their ids), those that `max_passages` takes, less what the generator has asked."""
    version = tables.latest(TABLE)
    there = rows_of(version, config.generator)
    wanted = passages.head(config.max_passages or len(passages)).with_row_index("position")
    again = pl.col("reason").eq_missing(ENDPOINT_ERROR)
    left = wanted.join(there.filter(~again), on="passage_id", how="anti", maintain_order="left")
    left = left.join(there.select("passage_id", *PAID), on="passage_id", how="left", maintain_order="left")
    names = passages.columns
    seeds = [
        Seed(row["position"], {name: row[name] for name in names}, _paid(row), row["calls"] is not None)
        for row in left.iter_rows(named=True)
    ]
    done = there.filter(~again).join(wanted, on="passage_id", how="semi")
    tokens = there.select(pl.col("input_tokens", "output_tokens").fill_null(0).sum()).row(0)
    return Plan(len(wanted), seeds, done, (len(there), *tokens), version)


def _paid(row: Row) -> tuple[int, int | None, int | None]:
    """Of earlier tries; what was never asked has cost nothing."""
    return (0, 0, 0) if row["calls"] is None else (row["calls"], row["input_tokens"], row["output_tokens"])


def rows_of(version: TableVersion | None, generator: str) -> pl.DataFrame:
    """A generator's rows: passage_id, reason and PAID."""
    columns = ["passage_id", "reason", *PAID]
    if version is None:
        return pl.DataFrame(schema={name: GeneratedQueries.polars_schema()[name] for name in columns})
    return version.scan().filter(pl.col("generator") == generator).select(columns).collect()


class Committed(NamedTuple):
    rows: int
    compared_with: TableVersion | None  # the newest version before
    version: TableVersion | None  # that has these rows and those of `compared_with`; None: and perhaps others'


class Known(NamedTuple):
    """What need not be read again as long as nobody else commits."""

    version: TableVersion | None
    failed: frozenset[str]  # of the passages that are asked, those that have a row there, all of failed tries


def commit_rows(
    tables: Tables,
    rows: Sequence[Row],
    config: GenerateConfig,
    files: Sequence[IngestedFile],
    known: Known | None = None,
) -> Committed:
    """Commit those that are new."""
    schema = GeneratedQueries.polars_schema()
    frame = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema).sort(KEY)
    is_failed = pl.col("reason").eq_missing(ENDPOINT_ERROR)
    while True:
        version = base = tables.latest(TABLE)
        there = _there(base, config.generator, frame["passage_id"], known)
        new = frame.join(there, on="passage_id", how="anti", maintain_order="left")
        better = frame.filter(~is_failed).join(there.filter(is_failed), on="passage_id", how="semi")
        with suppress(VersionMoved):
            if len(new):
                with new_version(tables, GeneratedQueries, _lineage(new, config, files), expected=base) as writer:
                    writer.write(new)
                version = writer.version
            if len(better):
                replaced = replace_rows(tables, GeneratedQueries, better, KEY, _lineage(better, config, files))
                version = replaced if version and replaced.version == version.version + 1 else None
            return Committed(len(new) + len(better), base, version)


def _there(version: TableVersion | None, generator: str, ids: pl.Series, known: Known | None) -> pl.DataFrame:
    """A generator's rows of some passages: passage_id and reason."""
    if version is None or ids.is_empty():
        return rows_of(None, generator).select("passage_id", "reason")
    if known and known.version == version:
        failed = ids.filter(ids.is_in(list(known.failed))).to_frame()
        return failed.with_columns(reason=pl.lit(ENDPOINT_ERROR))
    near = pl.col("passage_id").is_between(pl.lit(ids.min()), pl.lit(ids.max()))
    rows = version.scan().filter((pl.col("generator") == generator) & near)
    return rows.select("passage_id", "reason").collect().join(ids.to_frame(), on="passage_id", how="semi")


def _lineage(rows: pl.DataFrame, config: GenerateConfig, files: Sequence[IngestedFile]) -> Lineage:
    counted = rows.select(
        pl.col("reason").count().alias("failures"),
        *(
            pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name)
            for name in ("input_tokens", "output_tokens")
        ),
    ).row(0, named=True)
    result = GenerationResult(generator=config.generator, ingested_files=tuple(files), rows=len(rows), **counted)
    return Lineage("generate", [], config, result)
