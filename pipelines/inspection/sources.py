"""One row for each source of a curation: how large it is, what the teacher thinks of it, what was left out before.

    curated_triplets@v, its dropped_triplets, scored_triplets and quarantined_rows  --about_sources-->  a row a source,
    the worst first

Tables are read range by range or streamed: in memory are the sums, and of each source a sample of its passages, by
which near copies are counted. What was left out before there were triplets counts for the source that the row itself
names, else for that of its file.
"""

import json
from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from pipelines.curation.held_out import input_of
from pipelines.curation.outcomes import by_source, contradicted, curation_of, is_scored, with_dropped
from pipelines.inspection.queries import curation_counts
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.printable import counted, escaped, on_one_line
from pipelines.stage.progress import tell
from pipelines.stage.render import first_that_fit, noted_table
from pipelines.stage.terminal import cut
from pipelines.storage import QueryRange, Tables, TableVersion
from pipelines.storage.ranges import bucket_ranges, count_buckets
from pipelines.texts.near_duplicates import alike

ROWS_PER_RANGE = 500_000
PASSAGES_SAMPLED = 20_000  # of each source
NEAR_DUPLICATES = 0.9  # as mine counts them
INCONSISTENT = "positive_not_among_nearest"  # why mine leaves out a pair that its encoder does not believe
SHARES = ("kept", "corrected", "dropped", "disagreement", "near_copies")
WIDEST_NAME = 24
SIDES = ("query", "positive", "negative")
LENGTHS = "characters: means of query / positive / negative."


def about_sources(curated: TableVersion, *, passages_sampled: int = PASSAGES_SAMPLED) -> pl.DataFrame:
    """One row a source, that of whose rows the least stayed as they were first.

    Returns:
        source, queries, rows (triplets that were scored); kept, corrected, dropped (shares of the rows); disagreement,
        the share of rows whose negative the teacher prefers, as they came (of those it could read; null where their
        scores are gone); near_copies, the share of its passages
        (positives, `passages_sampled` at most) that are nearly the same as another of them; main_reason of what did
        not stay; query_chars, positive_chars, negative_chars (means); quarantined, inconsistent: input rows of it that
        became no triplet, and those of them whose positive is not among the nearest; null where no files are known.
    Raises:
        UserError: no curation made the version, or what it dropped is not known.
    """
    kept, dropped = with_dropped(curated)
    counts = curation_counts(curated)
    if counts.is_empty():
        raise UserError(f"{curated} has no rows any more, nor what it dropped: expected a version that was not erased")
    shares = by_source(counts.with_columns(pl.col("reason").fill_null(""))).with_columns(
        pl.col("kept", "corrected", "dropped") / pl.col("rows")
    )
    query_ids = pl.concat([version.scan().select("query_id") for version in (kept, dropped)])
    ranges = bucket_ranges(count_buckets(query_ids), ROWS_PER_RANGE)
    sums, samples = [], _Samples(passages_sampled)
    for rows in _rows(kept, dropped, ranges):
        sums.append(_sums(rows))
        samples.add(rows)
    names = [f"{side}_chars" for side in SIDES]
    of_rows = pl.concat(sums).group_by("source").sum().with_columns(pl.col(names) / pl.col("rows"))
    table = shares.join(of_rows.drop("rows"), on="source", how="left", maintain_order="left")
    table = table.join(_disagreement(curated), on="source", how="left", maintain_order="left")
    table = table.join(samples.near_copies(), on="source", how="left", maintain_order="left")
    table = table.join(_left_out(curated.tables), on="source", how="left", maintain_order="left")
    if curated.tables.latest("ingested_files"):
        table = table.with_columns(pl.col("quarantined", "inconsistent").fill_null(0))
    first = ["source", "queries", "rows", *SHARES, "main_reason"]
    return table.select(*first, *names, "quarantined", "inconsistent")


def source_lines(sources: pl.DataFrame, width: int | None = None) -> list[str]:
    """The table as text; on a terminal the last columns are left out until it fits, which is said."""
    rows = [
        [cut(on_one_line(row["source"]), WIDEST_NAME), f"{row['queries']:,}", f"{row['rows']:,}",
         *(_share(row[name]) for name in SHARES), row["main_reason"] or "",
         " / ".join(f"{row[f'{side}_chars']:,.0f}" for side in SIDES), _counted(row["quarantined"]),
         _counted(row["inconsistent"])]
        for row in sources.iter_rows(named=True)
    ]  # fmt: skip
    header = ["source", "queries", "rows", *SHARES, "mainly", "characters", "quarantined", "inconsistent"]
    named = zip((name.replace("_", " ") for name in header), zip(*rows, strict=True), strict=True)
    known = {name: list(column) for name, column in named if any(column)}
    cells = first_that_fit(known, width) if width else known
    notes = [LENGTHS] if "characters" in cells else []
    return noted_table(cells, notes, [name for name in known if name not in cells], width)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _counted(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def weights(sources: pl.DataFrame) -> dict[str, float]:
    """Of each source the share of its rows that stayed as they were, over that of the best: for distill.source_weights.

    A source of which nothing stayed weighs 0.
    """
    best = sources["kept"].max()
    return {name: round(kept / best, 3) if best else 1.0 for name, kept in sources.select("source", "kept").iter_rows()}


def leave_one_out(sources: pl.DataFrame, recipe: str, steps: int) -> str:
    """A study, as TOML: what a model loses that is trained without one of the sources, for each of them.

    Args:
        recipe: of whose curation and training the arms are.
        steps: of each of its trainings.
    """
    names = sources["source"].to_list()
    weighed = [{}, *({left_out: 0.0} for left_out in names)]
    arms = [{"name": _arm(number), "distill": {"source_weights": one}} for number, one in enumerate(weighed)]
    asked = [
        {"arm": _arm(0), "against": _arm(number), "question": f"what does {name} bring?"}
        for number, name in enumerate(names, 1)
    ]
    head = f"# Which source brings what: all of them, against all but one.\n\nrecipe = {_toml(recipe)}\n"
    head += f"seeds = [0, 1, 2]\nmax_steps = {steps}\n"
    tables = [(name, one) for name, several in (("arms", arms), ("comparisons", asked)) for one in several]
    return head + "".join(f"\n[[{name}]]\n{_lines(one)}" for name, one in tables)


def toml_weights(of_sources: Mapping[str, float]) -> str:
    """The table of a recipe that gives these weights."""
    return f"[distill.source_weights]\n{_lines(of_sources)}"


class _Samples:
    """Distinct positives of each source: those with the lowest ids, which are hashes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._found = pl.DataFrame(schema=dict.fromkeys(["source", "positive_id", "positive"], pl.String))

    def add(self, rows: pl.DataFrame) -> None:
        new = pl.concat([self._found, rows.select(self._found.columns)]).unique(["source", "positive_id"])
        self._found = new.sort("source", "positive_id").group_by("source", maintain_order=True).head(self._size)

    def near_copies(self) -> pl.DataFrame:
        """source, near_copies: the share of those sampled that count as another of them."""
        shares = []
        for (source,), sampled in self._found.group_by("source", maintain_order=True):
            firsts, _ = alike(sampled["positive"].to_list(), NEAR_DUPLICATES)
            copies = int((firsts != np.arange(len(firsts))).sum())
            shares.append({"source": source, "near_copies": copies / len(firsts)})
        return pl.DataFrame(shares, {"source": pl.String, "near_copies": pl.Float64})


def _rows(kept: TableVersion, dropped: TableVersion, ranges: list[QueryRange]) -> Iterator[pl.DataFrame]:
    """source, query_id, positive_id, the texts."""
    columns = ["source", "query_id", "positive_id", *SIDES]
    for one in ranges:
        both = [version.scan().filter(one.contains("query_id")).select(columns) for version in (kept, dropped)]
        yield pl.concat(both).collect()


def _sums(rows: pl.DataFrame) -> pl.DataFrame:
    """Of each source; a query's rows stand in one range."""
    chars = {f"{side}_chars": pl.col(side).str.len_chars().cast(pl.Int64).sum() for side in SIDES}
    queries, counted = pl.col("query_id").n_unique().cast(pl.Int64), pl.len().cast(pl.Int64)
    return rows.group_by("source").agg(queries=queries, rows=counted, **chars)


def _disagreement(curated: TableVersion) -> pl.DataFrame:
    """source, disagreement: of the scores that the curation went by."""
    try:
        scored = input_of(curated, "scored_triplets").usable()
    except UserError as error:
        tell(f"sources: disagreement is left out, since its scores cannot be read any more: {error}")
        return pl.DataFrame(schema={"source": pl.String, "disagreement": pl.Float64})
    rows = scored.scan().filter(pl.col("teacher") == curation_of(curated).teacher, is_scored())
    return rows.group_by("source").agg(disagreement=contradicted().mean()).collect(engine="streaming")


def quarantined_elsewhere(tables: Tables, sources: pl.DataFrame) -> str | None:
    """A line about quarantined rows that none of these sources counts: their file gives them another's name, mostly."""
    others = (
        _left_out(tables).join(sources, on="source", how="anti").sort("quarantined", "source", descending=[True, False])
    )
    if others.is_empty():
        return None
    named = [
        f"{cut(on_one_line(source), WIDEST_NAME)} ({count:,})"
        for source, count in others.select("source", "quarantined").iter_rows()
    ]
    return (
        f"in quarantined_rows: {counted(int(others['quarantined'].sum()), 'more row')} of what is no source here: "
        f"{first_of(named, 5)}; a row that names no source counts for its file's"
    )


def _left_out(tables: Tables) -> pl.DataFrame:
    """source, quarantined, inconsistent: input rows that name it, and those of its files that name none."""
    files, quarantined = tables.latest("ingested_files"), tables.latest("quarantined_rows")
    counts = ["quarantined", "inconsistent"]
    if files is None or quarantined is None:
        return pl.DataFrame(schema={"source": pl.String, **dict.fromkeys(counts, pl.Int64)})
    inconsistent = pl.col("reasons").list.contains(INCONSISTENT).cast(pl.Int64).sum()
    grouped = quarantined.scan().group_by("source_file", "source_sha256", "named_source")
    counted = grouped.agg(quarantined=pl.len().cast(pl.Int64), inconsistent=inconsistent).collect(engine="streaming")
    of_file = files.scan().select("source", source_file="path", source_sha256="sha256").unique().collect()
    unnamed = counted.filter(pl.col("named_source").is_null()).join(of_file, on=["source_file", "source_sha256"])
    named = counted.drop_nulls("named_source").rename({"named_source": "source"})
    both = pl.concat([named.select("source", *counts), unnamed.select("source", *counts)])
    return both.group_by("source").agg(pl.col(counts).sum())


def _arm(number: int) -> str:
    return f"without_{number}" if number else "all"


def _lines(table: Mapping[str, object]) -> str:
    return "".join(f"{_toml(name)} = {_toml(value)}\n" for name, value in table.items())


def _toml(value: object) -> str:
    """A text, a number or a table of them; JSON's escapes are TOML's, and what nobody sees is escaped as well."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_toml(name)} = {_toml(one)}" for name, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    written = json.dumps(value, ensure_ascii=False)
    return "".join(one if one.isprintable() else escaped(one) for one in written)
