"""An endpoint's answer as it stands in the body of its response: what is read of it has the type that it must have.

A body of another kind is `NoCompletion`, which says what came. A count that none can be (negative, a fraction, a word)
is one that the endpoint does not say.
"""

import json
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

MOST_TOKENS = 10**9
"""Of one answer; what is said to be more is no count. Sums of rows stay far below an Int64's."""


class Reply(NamedTuple):
    """One answer, and what it cost."""

    text: str
    finish: str  # stop, length, content_filter
    refusal: str | None
    input_tokens: int | None  # None where the endpoint does not say
    output_tokens: int | None


class NoCompletion(ValueError):
    """A response that holds no chat completion."""


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def _joined(value: Any) -> Any:
    """Content in parts, as OpenAI has it too, as the text that they make."""
    if not isinstance(value, list):
        return value
    parts = [part.get("text", "") if isinstance(part, dict) else None for part in value]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else value


Count = Annotated[int | None, BeforeValidator(_count)]


class _Usage(BaseModel):
    prompt_tokens: Count = None
    completion_tokens: Count = None


class _Message(BaseModel):
    content: Annotated[str | None, BeforeValidator(_joined)] = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage, BeforeValidator(lambda value: value if isinstance(value, dict) else {})] = _Usage()


def read_completion(body: bytes) -> Reply:
    """The first choice of a chat completion. Raises NoCompletion."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NoCompletion(f"something else than a chat completion: {_kind(body)}") from error
    if said := _error_in(value):
        raise NoCompletion(said)
    try:
        found = _Completion.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        problem = "Input should be an object" if first["type"] == "model_type" else first["msg"]
        raise NoCompletion(f"something else than a chat completion: {place}{problem}") from error
    choice, usage = found.choices[0], found.usage
    message, finish = choice.message, choice.finish_reason or "stop"
    return Reply(message.content or "", finish, message.refusal, usage.prompt_tokens, usage.completion_tokens)


def _error_in(value: Any) -> str | None:
    """What a server says went wrong, though the response's status is that of success."""
    error = value.get("error") if isinstance(value, dict) and not value.get("choices") else None
    said = error.get("message") if isinstance(error, dict) else error
    return f"an error: {said}" if isinstance(said, str) and said else None


def _kind(body: bytes) -> str:
    """Of a body that is no JSON."""
    start = body[:200].strip().lower()
    if not start:
        return "an empty body"
    if start.startswith(b"<"):
        return "HTML; is it the base URL, with its /v1?"
    if start.startswith((b"data:", b"event:", b":")):
        return "a stream of events, which was not asked for"
    return "no JSON, or a broken one"
