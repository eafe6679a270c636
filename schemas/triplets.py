"""triplets: one row per (query, positive, negative), as ingested or mined. Key: triplet_id.

Written by pipelines/ingest.py and pipelines/mine.py (append); read by pipelines/score.py.
Clustered by query_id: a query's rows lie side by side in few files.
"""

import pandera.polars as pa
import polars as pl

from schemas.table import ID_PATTERN, Table


class Triplets(Table):
    triplet_id: str = pa.Field(str_matches=ID_PATTERN)  # sha256 of the three ids below
    query_id: str = pa.Field(str_matches=ID_PATTERN)
    positive_id: str = pa.Field(str_matches=ID_PATTERN)
    negative_id: str = pa.Field(str_matches=ID_PATTERN)
    query: str = pa.Field(str_length={"min_value": 1})
    positive: str = pa.Field(str_length={"min_value": 1})
    negative: str = pa.Field(str_length={"min_value": 1})
    source: str  # which corpus the row came from: the unit in which data turns out to be rotten
    source_file: str
    source_row: int = pa.Field(ge=1)  # line or row in that file, from 1
    external_id: str = pa.Field(nullable=True)  # the user's own key
    miner: str = pa.Field(nullable=True, str_matches=r"^[a-z][a-z0-9_]*$")  # given, bm25, dense or random
    rank: pl.Int32 = pa.Field(nullable=True, ge=1)  # the miner's, of all passages for the query; null: given, random
    miner_score: pl.Float32 = pa.Field(nullable=True)  # what the miner ranked by: bm25's score, dense's cosine

    class Config:
        name = "triplets"
        unique = ["triplet_id"]
        metadata = {"statistics": ["triplet_id", "query_id"]}

    @pa.dataframe_check
    @classmethod
    def positive_is_not_negative(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col("positive_id") != pl.col("negative_id"))
