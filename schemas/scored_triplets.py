"""scored_triplets: one row per triplet and teacher. Key: triplet_id, teacher.

Written by pipelines/score.py (append); read by pipelines/curate.py.
Scores are raw: logits of a cross-encoder, cosines of a bi-encoder. Compare them only within one teacher.
A row the teacher could not score is still a row: its scores are null and `scoring_error` says why.
"""

import pandera.polars as pa
import polars as pl

from schemas.triplets import Triplets


class ScoredTriplets(Triplets):
    teacher: str = pa.Field(str_matches=r"^.+@[0-9a-f]{12}$")
    positive_score: pl.Float32 = pa.Field(nullable=True)
    negative_score: pl.Float32 = pa.Field(nullable=True)
    positive_relevance: pl.Float32 = pa.Field(nullable=True, ge=0, le=1)
    negative_relevance: pl.Float32 = pa.Field(nullable=True, ge=0, le=1)
    positive_tokens_cut: pl.Int32 = pa.Field(ge=0)  # tokens of (query, positive) beyond the teacher's maximum
    negative_tokens_cut: pl.Int32 = pa.Field(ge=0)
    scoring_error: str = pa.Field(nullable=True)

    class Config:
        name = "scored_triplets"
        unique = ["triplet_id", "teacher"]
        metadata = {"statistics": ["triplet_id", "query_id", "teacher"]}

    @pa.dataframe_check
    @classmethod
    def scores_are_finite_or_explained(cls, data: pa.PolarsData) -> pl.LazyFrame:
        both = pl.col("positive_score").is_finite() & pl.col("negative_score").is_finite()
        return data.lazyframe.select(pl.col("scoring_error").is_not_null() | both.fill_null(False))
