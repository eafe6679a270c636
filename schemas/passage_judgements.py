"""passage_judgements: one row per query, passage and judge, with what the judge says. Key: query_id, passage_id, judge.

Written by pipelines/relabel.py (append; a row whose endpoint failed gives way to the next try); read by curate.
`judge` is a model's name and a digest of prompt, parameters and rules: name@12hex. An answer that cannot be used is
still a row: `reason` says why. What a call cost stands in its row, used or not.
"""

import pandera.polars as pa
import polars as pl

from schemas.generated_queries import MAX_ANSWER_CHARS
from schemas.table import ID_PATTERN, Table


class PassageJudgements(Table):
    query_id: str = pa.Field(str_matches=ID_PATTERN)
    passage_id: str = pa.Field(str_matches=ID_PATTERN)
    judge: str = pa.Field(str_matches=r"^.+@[0-9a-f]{12}$")
    query: str = pa.Field(str_length={"min_value": 1})
    passage: str = pa.Field(str_length={"min_value": 1})
    verdict: str = pa.Field(nullable=True, isin=["relevant", "not_relevant"])
    reason: str = pa.Field(nullable=True, str_matches=r"^[a-z_]+$")  # why there is no verdict; null: there is one
    detail: str = pa.Field(nullable=True)  # what was found, in a line
    answer: str = pa.Field(nullable=True)  # the model's answer that could not be used, cut
    calls: pl.Int32 = pa.Field(ge=0)  # that were answered
    input_tokens: pl.Int64 = pa.Field(nullable=True, ge=0)  # as the endpoint counted; null: it did not say
    output_tokens: pl.Int64 = pa.Field(nullable=True, ge=0)

    class Config:
        name = "passage_judgements"
        unique = ["query_id", "passage_id", "judge"]
        metadata = {"statistics": ["query_id", "judge"]}

    @pa.dataframe_check
    @classmethod
    def has_a_verdict_or_a_reason(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col("verdict").is_not_null() == pl.col("reason").is_null())

    @pa.check("answer")
    @classmethod
    def answer_is_short(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col(data.key).str.len_chars().fill_null(0) <= MAX_ANSWER_CHARS)
