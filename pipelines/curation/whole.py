"""What a curation of all triplets would find, from one of a part of them: by source, with 95 % intervals.

The part is one of queries, whose ids are hashes: a random one, drawn by the query (pipelines/stage/sample.py).
"""

import polars as pl

from pipelines.curation.outcomes import OUTCOMES
from pipelines.curation.scored_rows import ScoredRows
from pipelines.stage import hints
from pipelines.stage.progress import tell
from pipelines.stage.sample import ratio, sums

SUMS = ("x", "y", "xx", "xy", "yy")


class Whole:
    """Gathers what is curated of the queries that were drawn; in memory are some sums for each source."""

    def __init__(self, source: ScoredRows) -> None:
        self._drawn = source.drawn()
        self._triplets = source.triplets
        self._sums: list[pl.DataFrame] = []
        if self._drawn is None:
            told = (
                f"rows of an older version are scored, and some of {source.triplets}: no random part, so nothing is "
                f"said of the whole; to have one: `python -m jobs score --from {source.triplets} --share 0.01`"
            )
            tell(hints.completed(told))

    def add(self, kept: pl.DataFrame, dropped: pl.DataFrame) -> None:
        """A block of whole queries, as it was curated."""
        if self._drawn is not None:
            self._sums.append(_sums(kept, dropped, self._drawn))

    def estimates(self) -> pl.DataFrame | None:
        """source, queries and rows drawn, triplets (rows in all); of each outcome its share of the rows and an interval
        (kept, kept_low, kept_high, ...), null for a source of which no query was drawn. None without a random part."""
        if self._drawn is None:
            return None
        in_all = self._triplets.scan().group_by("source").agg(triplets=pl.len().cast(pl.Int64)).sort("source")
        summed = pl.concat(self._sums).group_by("source").sum() if self._sums else None
        of_sources = {row["source"]: row for row in summed.to_dicts()} if summed is not None else {}
        rows = [_estimate(of_sources.get(source), source, total) for source, total in in_all.collect().iter_rows()]
        return pl.DataFrame(rows, schema=_SCHEMA)


_SHARES = [f"{outcome}{end}" for outcome in OUTCOMES for end in ("", "_low", "_high")]
_COUNTS = ("queries", "rows", "triplets")
_SCHEMA = {"source": pl.String, **dict.fromkeys(_COUNTS, pl.Int64), **dict.fromkeys(_SHARES, pl.Float64)}


def _sums(kept: pl.DataFrame, dropped: pl.DataFrame, drawn: pl.Expr) -> pl.DataFrame:
    """A row a source: of each outcome the sums that a ratio needs, over queries."""
    is_corrected = pl.col("correction").is_not_null()
    outcome = pl.when(is_corrected).then(pl.lit("corrected")).otherwise(pl.lit("kept"))
    rows = pl.concat(
        [
            kept.filter(drawn).select("source", "query_id", outcome=outcome),
            dropped.filter(drawn).select("source", "query_id", outcome=pl.lit("dropped")),
        ]
    )
    counts = {name: (pl.col("outcome") == name).sum() for name in OUTCOMES}
    queries = rows.group_by("source", "query_id").agg(rows=pl.len(), **counts)
    named = {f"{of} {name}": one for of in OUTCOMES for name, one in sums(of, "rows").items()}
    return queries.group_by("source").agg(**named)


def _estimate(summed: dict[str, float] | None, source: str, total: int) -> dict[str, object]:
    if summed is None:
        return {"source": source, "queries": 0, "rows": 0, "triplets": total}
    first = OUTCOMES[0]
    num_rows = int(summed[f"{first} x"])
    row: dict[str, object] = {
        "source": source,
        "queries": int(summed[f"{first} clusters"]),
        "rows": num_rows,
        "triplets": total,
    }
    for of in OUTCOMES:
        sampled = {name: summed[f"{of} {name}"] for name in SUMS}
        share = ratio(min(1.0, num_rows / total), clusters=int(summed[f"{of} clusters"]), **sampled)
        row[of] = share.value
        row[f"{of}_low"], row[f"{of}_high"] = share.interval()
    return row
