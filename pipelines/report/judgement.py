"""What a curation did, in numbers and examples: rows by source, reason and split, and some rows of each reason.

    Subject  --outcomes-->  counts, sources (worst first), reasons, splits
    Subject  --examples-->  a few whole rows of each reason, those corrected before and after

Counts are those of `inspection.queries.curation_counts`, which `diff`, card and manifest show as well.
"""

from typing import Any, NamedTuple

import polars as pl

from pipelines.curation.outcomes import by_source, dropped_outcome, kept_outcome
from pipelines.inspection.queries import curation_counts
from pipelines.report.subject import Subject
from pipelines.storage import TableVersion

EXAMPLES = 4
CUT_CHARS = 2_000  # of a text, before it leaves the table: 100 kB words are not carried around
DRAWN = 40  # rows that a draw of one reason expects: fewer than EXAMPLES of them come with a probability of 1e-13
TEXTS = ("query", "positive", "negative")

Row = dict[str, Any]


class Outcomes(NamedTuple):
    """Counts of one curation."""

    counts: pl.DataFrame  # source, outcome, reason, rows
    sources: pl.DataFrame  # source, rows, kept, corrected, dropped, main_reason; worst first
    reasons: pl.DataFrame  # outcome, reason, rows, sources; the commonest first, kept left out
    splits: pl.DataFrame  # split, rows of curated_triplets

    def rows(self, outcome: str | None = None) -> int:
        """All rows that were judged, or those with an outcome."""
        found = self.counts if outcome is None else self.counts.filter(pl.col("outcome") == outcome)
        return int(found["rows"].sum())


def outcomes(subject: Subject) -> Outcomes:
    """Counts by source and reason; a scan of each table."""
    counts = curation_counts(subject.curated)
    changed = counts.filter(pl.col("outcome") != "kept")
    reasons = changed.group_by("outcome", "reason").agg(pl.col("rows").sum(), sources=pl.col("source").n_unique())
    splits = subject.curated.scan().group_by("split").agg(rows=pl.len().cast(pl.Int64)).sort("split")
    return Outcomes(
        counts,
        by_source(counts.with_columns(pl.col("reason").fill_null(""))),
        reasons.sort("rows", "reason", descending=[True, False]),
        splits.collect(engine="streaming"),
    )


def examples(subject: Subject, reasons: pl.DataFrame) -> dict[str, list[Row]]:
    """Reason -> up to EXAMPLES rows: those whose triplet ids, which are hashes, are the smallest.

    A row has query, positive, negative with their lengths (`query_chars`), both scores, source, triplet_id; one that
    was corrected has under `before` the same of the row that it came as, None where that cannot be read any more.
    """
    found: dict[str, list[Row]] = {}
    for version, outcome, reason in (
        (subject.curated, "corrected", kept_outcome()[1]),
        (subject.dropped, "dropped", dropped_outcome()[1]),
    ):
        of_outcome = reasons.filter(pl.col("outcome") == outcome)
        if version is not None and len(of_outcome):
            drawn = _drawn(version, dict(of_outcome.select("reason", "rows").iter_rows()), reason)
            found |= {name: [row for row in drawn if row["reason"] == name] for name in of_outcome["reason"]}
    corrected = [row for rows in found.values() for row in rows if row.get("original_triplet_id")]
    before = _before(subject, corrected)
    for row in corrected:
        row["before"] = before.get(row["original_triplet_id"])
    return found


def _drawn(version: TableVersion, counts: dict[str, int], reason: pl.Expr) -> list[Row]:
    """Up to EXAMPLES rows of each reason; a scan that reads texts of those alone that may be taken."""
    is_drawn = pl.any_horizontal(
        (reason == name) & (pl.col("triplet_id") < _below(DRAWN / rows)) for name, rows in counts.items()
    )
    rows = version.scan()
    extra = [name for name in ("original_triplet_id",) if name in rows.collect_schema().names()]
    chosen = rows.filter(is_drawn).select(*shown_columns(), reason, *extra).collect(engine="streaming")
    first = chosen.sort("triplet_id").group_by("reason", maintain_order=True).head(EXAMPLES)
    return first.to_dicts()


def _before(subject: Subject, corrected: list[Row]) -> dict[str, Row]:
    """triplet_id -> the scored row as it was before it was corrected."""
    if subject.scored is None:
        return {}
    of_teacher = subject.scored.scan().filter(pl.col("teacher") == subject.result.teacher)
    return rows_by_id(of_teacher, "triplet_id", {row["original_triplet_id"]: row["query_id"] for row in corrected})


def rows_by_id(rows: pl.LazyFrame, column: str, query_ids: dict[str, str]) -> dict[str, Row]:
    """id -> the row that has it in a column, as it is shown.

    Args:
        query_ids: id -> the query of its row, by which the tables are sorted.
    """
    if not query_ids:
        return {}
    is_one = pl.col("query_id").is_in([*query_ids.values()]) & pl.col(column).is_in([*query_ids])
    found = rows.filter(is_one).select(*shown_columns(), asked=column).collect(engine="streaming")
    return {row.pop("asked"): row for row in found.to_dicts()}


def shown_columns() -> list[pl.Expr]:
    """Of a row with texts: what is shown of it, each text cut, with its length in characters."""
    cut = [pl.col(name).str.head(CUT_CHARS) for name in TEXTS]
    chars = [pl.col(name).str.len_chars().alias(f"{name}_chars") for name in TEXTS]
    return [pl.col("triplet_id", "query_id", "source", "positive_score", "negative_score"), *cut, *chars]


def _below(share: float) -> str:
    """A bound of ids, which are hashes in hex, below which this share of them lies: `g` is above all."""
    return "g" if share >= 1 else f"{int(share * 16**12):012x}"
