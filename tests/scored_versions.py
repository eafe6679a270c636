"""Small triplets and scored_triplets versions for tests of curation, committed as ingest and score commit them."""

from collections.abc import Iterable
from typing import Any

import polars as pl

from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.storage.commits import Completion, ScoringResult
from schemas import ScoredTriplets, Triplets
from tests.rows import frame_of

JUDGE = "judge@0123456789ab"
Row = tuple[str, str, float | None, str, float | None]  # query, positive, its score, negative, its score


class ScoringConfig(Config):
    """As much of the scoring config as curation reads."""

    teacher_kind: str = "cross_encoder"


def scored_rows(rows: Iterable[Row], teacher: str = JUDGE, source: str = "docs", **every_row: Any) -> pl.DataFrame:
    """Scored triplets of the given texts and scores."""
    named = {"teacher": teacher, "source": source, "source_file": f"{source}.jsonl"}
    return frame_of(ScoredTriplets, *map(_judged, rows), **(named | every_row))


def _judged(row: Row) -> dict[str, Any]:
    query, positive, positive_score, negative, negative_score = row
    return {
        "query": query,
        "positive": positive,
        "negative": negative,
        "positive_score": positive_score,
        "negative_score": negative_score,
        "positive_relevance": relevance(positive_score),
        "negative_relevance": relevance(negative_score),
    }


def relevance(score: float | None) -> float | None:
    """Any function that grows with the score will do."""
    return None if score is None else (score + 20) / 40


def write_triplets(tables: Tables, rows: pl.DataFrame) -> TableVersion:
    """The rows' triplets, appended."""
    with new_version(tables, Triplets, Lineage("ingest", [], ScoringConfig())) as triplets:
        triplets.write(rows.select(Triplets.polars_schema().keys()).unique("triplet_id", maintain_order=True))
    return triplets.version


def write_scored(
    triplets: TableVersion, rows: pl.DataFrame, *, is_complete: bool = True, share: float = 1.0
) -> TableVersion:
    """The scored rows, appended; then, as a scoring run does, a commit without rows that says they are complete."""
    teacher, lineage = rows["teacher"][0], Lineage("score", [triplets], ScoringConfig())
    with new_version(triplets.tables, ScoredTriplets, lineage) as scored:
        scored.write(rows)
        scored.result = ScoringResult(teacher=teacher)
    if not is_complete:
        return scored.version
    with new_version(triplets.tables, ScoredTriplets, lineage) as completed:
        told = {"teacher": teacher, "teacher_kind": "cross_encoder", "triplets": str(triplets), "share": share}
        completed.result = ScoringResult(teacher=teacher, complete=Completion(**told, rows=len(rows)))
    return completed.version
