"""curated_triplets: one row per triplet fit for training. Key: triplet_id.

Written by pipelines/curate.py, each curation a whole new version; read by pipelines/distill.py.
Teacher scores are raw (logits or cosines): compare them only within one teacher.
"""

import pandera.polars as pa
import polars as pl

from schemas.table import ID_PATTERN
from schemas.triplets import Triplets


class CuratedTriplets(Triplets):
    positive_score: pl.Float32
    negative_score: pl.Float32
    positive_relevance: pl.Float32 = pa.Field(ge=0, le=1)
    negative_relevance: pl.Float32 = pa.Field(ge=0, le=1)
    teacher_margin: pl.Float32  # score(query, positive) - score(query, negative)
    teacher: str
    split: str = pa.Field(isin=["train", "dev", "test"])
    correction: str = pa.Field(nullable=True, isin=["swapped", "promoted", "relabelled"])
    original_triplet_id: str = pa.Field(nullable=True, str_matches=ID_PATTERN)  # of a corrected row
    curation: str = pa.Field(str_matches=r"^[0-9a-f]{12}$")  # inputs and config; equal in dropped_triplets
    scored_version: str

    class Config:
        name = "curated_triplets"
        unique = ["triplet_id"]
        metadata = {"statistics": ["triplet_id", "query_id", "split"]}

    @pa.check("teacher_margin")
    @classmethod
    def is_finite(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col(data.key).is_finite())

    @pa.dataframe_check
    @classmethod
    def query_stays_in_one_split(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col("split").n_unique().over("query_id") == 1)

    @pa.dataframe_check
    @classmethod
    def correction_names_its_original(cls, data: pa.PolarsData) -> pl.LazyFrame:
        corrected = pl.col("correction").is_not_null()
        return data.lazyframe.select(corrected == pl.col("original_triplet_id").is_not_null())
