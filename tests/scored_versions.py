"""Small triplets and scored_triplets versions for tests of curation, committed as ingest and score commit them."""

from typing import Any

import polars as pl

from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.storage.commits import Completion, ScoringResult
from pipelines.texts.ids import text_id, triplet_id
from schemas import ScoredTriplets, Triplets

JUDGE = "judge@0123456789ab"
Row = tuple[str, str, float, str, float]  # query, positive, its score, negative, its score


class ScoringConfig(Config):
    """As much of the scoring config as curation reads."""

    teacher_kind: str = "cross_encoder"


def scored_rows(rows: list[Row], teacher: str = JUDGE, source: str = "docs") -> pl.DataFrame:
    """Scored triplets of the given texts and scores."""
    return pl.DataFrame([_scored_row(row, teacher, source) for row in rows], schema=ScoredTriplets.polars_schema())


def _scored_row(row: Row, teacher: str, source: str) -> dict[str, Any]:
    query, positive, positive_score, negative, negative_score = row
    ids = {"query_id": text_id(query), "positive_id": text_id(positive), "negative_id": text_id(negative)}
    return {
        "triplet_id": triplet_id(*ids.values()),
        **ids,
        "query": query,
        "positive": positive,
        "negative": negative,
        "source": source,
        "source_file": f"{source}.jsonl",
        "source_row": 1,
        "teacher": teacher,
        "positive_score": positive_score,
        "negative_score": negative_score,
        "positive_relevance": (positive_score + 20) / 40,
        "negative_relevance": (negative_score + 20) / 40,
        "positive_tokens_cut": 0,
        "negative_tokens_cut": 0,
    }


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
