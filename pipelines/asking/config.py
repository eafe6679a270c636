"""What every stage that asks a model is told: which endpoint and model, at which pace, and what may be spent.

A stage's config adds its prompts and says by `who` all that a row depends on, name@12hex, as a teacher is named; where
the endpoint is, how fast it is asked and what it costs are no part of that.
"""

import json
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage.fingerprint import fingerprint_of

OF_ANSWERS = ["model", "top_p", "seed", "max_output_tokens", "answer_format", "extra"]
"""Fields that an answer depends on, whatever is asked."""


class EndpointConfig(Config):
    """Stored with every version it produced."""

    stage: ClassVar[str]  # the recipe's table
    unit: ClassVar[str]  # what has a row: passages, pairs
    role: ClassVar[str]  # what the model is here, and the table's column for it: generator, judge
    does: ClassVar[str]  # "writes queries"
    undone: ClassVar[str]  # "no query was written"
    shown: ClassVar[str]  # the column of a row that makes its prompt long or short
    share: ClassVar[tuple[str, str]]  # how a sample's share of rows is called: for programs, for people

    endpoint: str | None = None
    """Base URL of an OpenAI-compatible server, with its /v1: vLLM, llama.cpp, a hosted one. No secret may be in it."""

    model: str | None = None
    """As the endpoint calls it."""

    api_key_variable: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The environment variable that holds the key; without the default one a server is asked without a key."""

    top_p: float | None = Field(None, gt=0, le=1)
    """Of the model's choice of words; null leaves it to the endpoint."""

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

    concurrency: int = Field(16, ge=1, le=1_000)
    """Rows under way at once."""

    requests_per_minute: float | None = Field(None, ge=0.1)
    """Largest number of requests in a minute, retries included; null is as many as `concurrency` makes."""

    max_retries: int = Field(6, ge=0, le=100)
    """Of a call that met 408, 409, 429, 5xx or a broken connection, with growing waits, or as Retry-After says."""

    timeout_s: float = Field(120.0, gt=0)
    """A whole answer that takes longer is asked for again."""

    keep_raw: bool = True
    """Keep the beginning of an answer that could not be used; off where that may not be stored."""

    commit_every_s: float = Field(10.0, ge=0)
    """Finished rows are committed so often; a kill -9 loses what was answered since."""

    price_per_million: tuple[float, float] | None = None
    """What a million input tokens and a million output tokens cost."""

    max_cost: float | None = Field(None, gt=0)
    """Nothing is begun that could bring this model's rows above it, were it as dear as the dearest of the run;
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
        if parts.port == 0:  # one above 65535 raises ValueError
            raise ValueError("port 0 is none, expected http://HOST:PORT/v1")
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
    def has_a_price_for_its_limit(self) -> "EndpointConfig":
        if self.max_cost is not None and self.price_per_million is None:
            raise ValueError("max_cost needs price_per_million, expected both")
        return self

    def meaning(self) -> dict[str, Any]:
        """All that a row depends on beside what is asked about."""
        raise NotImplementedError

    @property
    def who(self) -> str:
        """name@12hex. Raises UserError where no model is named."""
        if self.model is None:
            raise UserError(
                f"no model is named that {self.does}; expected --set {self.stage}.model=NAME, or the recipe's"
            )
        return f"{self.model}@{fingerprint_of(self.meaning())}"

    def base_url(self) -> str:
        """Raises UserError where none is named."""
        if self.endpoint is None:
            raise UserError(
                f"no endpoint is named that {self.does}; expected --set {self.stage}.endpoint=http://HOST:PORT/v1 of "
                "an OpenAI-compatible server, or the recipe's"
            )
        return self.endpoint

    def cost(self, input_tokens: float, output_tokens: float) -> float | None:
        """Of so many tokens; None where no price is given."""
        if self.price_per_million is None:
            return None
        of_input, of_output = self.price_per_million
        return (input_tokens * of_input + output_tokens * of_output) / 1e6
