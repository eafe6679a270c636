"""generated_queries: one row per passage and generator, with the query written for it. Key: passage_id, generator.

Written by pipelines/generate.py (append; a row whose endpoint failed gives way to the next try); read by mine.
`generator` is a model's name and a digest of prompts, parameters and rules: name@12hex. A row without a query that can
be used is still a row: `reason` says why. What a call cost stands in its row, used or not.
"""

import pandera.polars as pa
import polars as pl

from schemas.table import ID_PATTERN, ListOfStrings, Table

MAX_ANSWER_CHARS = 2_000


class GeneratedQueries(Table):
    passage_id: str = pa.Field(str_matches=ID_PATTERN)  # of the passage that the query was written from, the seed
    generator: str = pa.Field(str_matches=r"^.+@[0-9a-f]{12}$")
    passage: str = pa.Field(str_length={"min_value": 1})
    task: str = pa.Field(nullable=True, str_length={"min_value": 1})  # what a reader searches for, in the model's words
    query_id: str = pa.Field(nullable=True, str_matches=ID_PATTERN)
    query: str = pa.Field(nullable=True, str_length={"min_value": 1})
    positive_id: str = pa.Field(nullable=True, str_matches=ID_PATTERN)
    positive: str = pa.Field(
        nullable=True, str_length={"min_value": 1}
    )  # the seed, or a passage that was judged better
    negative_id: str = pa.Field(nullable=True, str_matches=ID_PATTERN)
    negative: str = pa.Field(nullable=True, str_length={"min_value": 1})  # near to the query and judged no answer
    is_relabelled: bool = pa.Field(nullable=True)  # the positive is not the seed
    positive_grade: pl.Int32 = pa.Field(nullable=True, ge=0, le=3)  # the model's; null: nothing was ranked
    negative_grade: pl.Int32 = pa.Field(nullable=True, ge=0, le=3)
    positive_score: pl.Float32 = pa.Field(nullable=True)  # the teacher's, raw, where it ranked
    negative_score: pl.Float32 = pa.Field(nullable=True)
    seed_rank: pl.Int32 = pa.Field(nullable=True, ge=1)  # BM25's, of all passages for the query; null: not among them
    positive_rank: pl.Int32 = pa.Field(nullable=True, ge=1)
    negative_rank: pl.Int32 = pa.Field(nullable=True, ge=1)
    relevant_ids: ListOfStrings = pa.Field(nullable=True)  # candidates judged to answer it, the positive among them
    reason: str = pa.Field(nullable=True, str_matches=r"^[a-z_]+$")  # why there is no pair; null: there is one
    detail: str = pa.Field(nullable=True)  # what was found, in a line
    answer: str = pa.Field(nullable=True)  # the model's answer that could not be used, cut
    calls: pl.Int32 = pa.Field(ge=0)  # that were answered
    input_tokens: pl.Int64 = pa.Field(nullable=True, ge=0)  # as the endpoint counted; null: it did not say
    output_tokens: pl.Int64 = pa.Field(nullable=True, ge=0)
    source: str
    source_file: str
    source_row: int = pa.Field(ge=1)
    external_id: str = pa.Field(nullable=True)  # the user's own key of the passage

    class Config:
        name = "generated_queries"
        unique = ["passage_id", "generator"]
        metadata = {"statistics": ["passage_id", "generator"]}

    @pa.dataframe_check
    @classmethod
    def has_a_pair_or_a_reason(cls, data: pa.PolarsData) -> pl.LazyFrame:
        has_pair = pl.col("query").is_not_null() & pl.col("positive").is_not_null()
        return data.lazyframe.select(has_pair == pl.col("reason").is_null())

    @pa.dataframe_check
    @classmethod
    def negative_is_not_positive(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select((pl.col("negative_id") != pl.col("positive_id")).fill_null(True))

    @pa.check("answer")
    @classmethod
    def answer_is_short(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col(data.key).str.len_chars().fill_null(0) <= MAX_ANSWER_CHARS)
