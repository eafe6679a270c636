"""What is asked of which model: the recipe's table [generate].

`GenerateConfig.generator` names all of it that a row depends on, name@12hex, as a teacher is named; where the endpoint
is, how fast it is asked and what it costs are no part of that.
"""

import json
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from pipelines.generation import prompts
from pipelines.intake.layouts import RowChecks
from pipelines.stage.errors import UserError
from pipelines.storage.fingerprint import fingerprint_of

RULES = 1
"""Of how answers are read and passages chosen: another number is another generator."""

OF_RANKING = {"rank_prompt", "candidates", "candidate_chars", "min_positive_grade", "max_negative_grade"}


class GenerateConfig(RowChecks):
    """Which model writes queries, how, and what may be spent. Stored with every version it produced."""

    endpoint: str | None = None
    """Base URL of an OpenAI-compatible server, with its /v1: vLLM, llama.cpp, a hosted one. No secret may be in it."""

    model: str | None = None
    """As the endpoint calls it."""

    api_key_variable: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The environment variable that holds the key; without the default one a server is asked without a key."""

    ranker: Literal["llm", "seed"] = "llm"
    """Who names the positive: the model grades candidates, or it is the passage that the query was written from."""

    candidates: int = Field(20, ge=1, le=100)
    """Passages that the model grades for a query: BM25's best, the seed among them."""

    min_positive_grade: int = Field(2, ge=1, le=3)
    """A query of which no candidate has this grade, 0 to 3, is left out."""

    max_negative_grade: int = Field(1, ge=0, le=2)
    """The negative is the candidate that BM25 ranks highest of those with at most this grade."""

    temperature: float | None = Field(0.7, ge=0, le=2)
    """Of the model's choice of words; null leaves it to the endpoint. Grades are asked for at 0."""

    top_p: float | None = Field(None, gt=0, le=1)
    """Likewise."""

    seed: int | None = None
    """Sent with each call; an endpoint that honours it gives the same answer again."""

    max_output_tokens: int = Field(512, ge=16)
    """Of one answer; a longer one is cut, and so malformed."""

    output_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls that: newer hosted models know only the second."""

    answer_format: Literal["json_object", "text"] = "json_object"
    """What is sent as response_format; "text" for servers that refuse it."""

    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of each call's body, for vLLM {chat_template_kwargs = {enable_thinking = false}}; no secret."""

    write_prompt: str = prompts.WRITE
    """Asks for a task and a query; {passage} is filled in."""

    rank_prompt: str = prompts.RANK
    """Asks for grades; {task}, {query}, {count} and {candidates} are filled in."""

    passage_chars: int = Field(8_000, ge=100)
    """Characters of the seed that the model is shown."""

    candidate_chars: int = Field(1_500, ge=100)
    """Characters of each candidate that the model is shown."""

    max_query_chars: int = Field(1_000, ge=1)
    """A longer query is malformed."""

    max_held_passages: int = Field(2_000_000, ge=1)
    """More distinct passages are refused: they are held in memory, with BM25's index over them."""

    concurrency: int = Field(16, ge=1, le=1_000)
    """Passages under way at once."""

    requests_per_minute: float | None = Field(None, gt=0)
    """Largest number of requests in a minute, retries included; null is as many as `concurrency` makes."""

    max_retries: int = Field(6, ge=0, le=100)
    """Of a call that met 408, 409, 429, 5xx or a broken connection, with growing waits, or as Retry-After says."""

    timeout_s: float = Field(120.0, gt=0)
    """An answer that takes longer is asked for again."""

    commit_every_s: float = Field(10.0, ge=0)
    """Finished rows are committed so often; a kill -9 loses what was answered since."""

    max_passages: int | None = Field(None, ge=1)
    """So many passages get a query, chosen by their ids: the first thousand are part of the first two thousand."""

    price_per_million: tuple[float, float] | None = None
    """What a million input tokens and a million output tokens cost."""

    max_cost: float | None = Field(None, gt=0)
    """No passage is begun that could bring this generator's rows above it, were it as dear as the dearest of the run;
    needs `price_per_million`."""

    @field_validator("endpoint")
    @classmethod
    def is_a_url_without_secrets(cls, value: str | None) -> str | None:
        """It is recorded with every version."""
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http://HOST:PORT/v1 or https://HOST/v1")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("expected no name, password or query in it: a key comes from api_key_variable")
        return value.rstrip("/")

    @field_validator("model")
    @classmethod
    def is_a_name(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or not value.isprintable()):
            raise ValueError("expected the model's name as the endpoint has it")
        return value

    @field_validator("extra")
    @classmethod
    def is_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        if own := sorted(value.keys() & {"model", "messages", "stream", "n"}):
            raise ValueError(f"{', '.join(own)} cannot be set there, expected other fields")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected what JSON can hold ({error})") from error
        return value

    @field_validator("price_per_million")
    @classmethod
    def is_a_price(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not all(0 <= price < 1e9 for price in value):
            raise ValueError("expected what a million input and a million output tokens cost: 0 or more each")
        return value

    @model_validator(mode="after")
    def fits_together(self) -> "GenerateConfig":
        for name, places in (("write_prompt", prompts.WRITE_PLACES), ("rank_prompt", prompts.RANK_PLACES)):
            if missing := prompts.missing_places(getattr(self, name), places):
                raise ValueError(
                    f"{name} lacks {', '.join(missing)}, expected {', '.join(f'{{{place}}}' for place in places)}"
                )
        if self.max_negative_grade >= self.min_positive_grade:
            raise ValueError("expected max_negative_grade below min_positive_grade")
        if self.max_cost is not None and self.price_per_million is None:
            raise ValueError("max_cost needs price_per_million, expected both")
        return self

    def meaning(self) -> dict[str, Any]:
        """All that a row depends on beside its passage and the passages that it is ranked with."""
        names = ["model", "ranker", "temperature", "top_p", "seed", "max_output_tokens", "answer_format", "extra"]
        names += ["write_prompt", "passage_chars", "max_query_chars"]
        names += sorted(OF_RANKING) if self.ranker == "llm" else []
        values = self.model_dump(mode="json")
        return {"rules": RULES, **{name: values[name] for name in names}}

    @property
    def generator(self) -> str:
        """name@12hex. Raises UserError where no model is named."""
        if self.model is None:
            raise UserError(
                "no model is named that writes queries; expected --set generate.model=NAME, or the recipe's"
            )
        return f"{self.model}@{fingerprint_of(self.meaning())}"

    def base_url(self) -> str:
        """Raises UserError where none is named."""
        if self.endpoint is None:
            raise UserError(
                "no endpoint is named that writes queries; expected --set generate.endpoint=http://HOST:PORT/v1 of an "
                "OpenAI-compatible server, or the recipe's"
            )
        return self.endpoint

    def cost(self, input_tokens: float, output_tokens: float) -> float | None:
        """Of so many tokens; None where no price is given."""
        if self.price_per_million is None:
            return None
        of_input, of_output = self.price_per_million
        return (input_tokens * of_input + output_tokens * of_output) / 1e6
