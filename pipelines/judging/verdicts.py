"""A pair's call as a row of passage_judgements: the prompt filled in, and the verdict that is read of the answer."""

import re
from collections.abc import Sequence
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, field_validator

from pipelines.asking.answers import checked, read_reply
from pipelines.asking.book import Book
from pipelines.asking.endpoint import Endpoint
from pipelines.asking.prompts import filled
from pipelines.asking.rows import Account, Make, Row, Seed, answered
from pipelines.judging.config import RelabelConfig
from pipelines.storage import Lineage, Tables, TableVersion
from pipelines.storage.commits import JudgingResult
from schemas import PassageJudgements

Verdict = Literal["relevant", "not_relevant"]


class _Verdict(BaseModel):
    model_config = ConfigDict(strict=True)

    verdict: Verdict

    @field_validator("verdict", mode="before")
    @classmethod
    def as_asked_for(cls, value: Any) -> Any:
        """ "Not relevant" is as good."""
        return re.sub(r"[\s_-]+", "_", value.strip().lower()) if isinstance(value, str) else value


def read_verdict(answer: str) -> Verdict:
    """Raises Unusable."""
    return checked(_Verdict, answer).verdict


def judging(config: RelabelConfig) -> Make:
    """Makes rows of pairs."""

    async def row_of(seed: Seed, endpoint: Endpoint) -> Row:
        async def ask(row: Row, account: Account) -> None:
            shown = {"query": row["query"], "passage": row["passage"][: config.passage_chars]}
            question = endpoint.ask(filled(config.judge_prompt, shown), temperature=config.temperature)
            row["verdict"] = read_reply(await account.pay(question), config, read_verdict)

        return await answered(seed, config, ask)

    return row_of


def prompt_chars(config: RelabelConfig) -> pl.Expr:
    """Characters of a pair's prompt."""
    passage = pl.col("passage").str.len_chars().clip(upper_bound=config.passage_chars)
    return pl.col("query").str.len_chars() + passage + float(len(config.judge_prompt))


def book_of(tables: Tables, config: RelabelConfig, inputs: Sequence[TableVersion]) -> Book:
    """The judge's rows; commits name the version that the pairs came from."""

    def describe(**result: Any) -> Lineage:
        return Lineage("relabel", list(inputs), config, JudgingResult(judge=config.who, **result))

    return Book(tables, PassageJudgements, config.role, config.who, describe, more=("verdict",))
