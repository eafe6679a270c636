"""The model's answers, checked: values of the one JSON object that was asked for, or why they cannot be used.

What models put around it (a fence, thoughts in <think>) is passed over. Reasons that any answer may have: `refused`,
`malformed_answer`.
"""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.asking.completion import Reply
from pipelines.asking.config import EndpointConfig
from pipelines.asking.endpoint import FILTERED
from pipelines.stage.errors import describe

OPENS = re.compile(r'\{(?=\s*["}])')
MOST_FAILURES = 200
"""Braces that open no object though they look like it: more are not tried, as each may take as long as the answer."""
CHARS_PER_TOKEN, SLACK_CHARS = 16, 10_000
"""What a token has at most, on the average of a whole answer: a longer one is no model's."""

REFUSAL = re.compile(
    r"^\W*(i['\u2019]?\s?a?m (very |really )?(sorry|unable)|sorry\b"
    r"|i (can(no|['\u2019])t|can not|won['\u2019]t|will not)\b"
    r"|as an ai\b|i must decline|unable to (comply|help|assist))",
    re.IGNORECASE,
)

Kind = TypeVar("Kind", bound=BaseModel)
Value = TypeVar("Value")


class Unusable(ValueError):
    """An answer of which nothing can be made."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def checked(kind: type[Kind], answer: str) -> Kind:
    """The answer's object as such a model. Raises Unusable."""
    try:
        return kind.model_validate(_object_in(answer))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Unusable("malformed_answer", f"{place}: {first['msg']}"[:300]) from error


def read_reply(reply: Reply, config: EndpointConfig, read: Callable[[str], Value]) -> Value:
    """What an answer says. Raises Unusable, also where the endpoint says that it is no answer."""
    if reply.refusal or reply.finish == FILTERED:
        raise Unusable("refused", clean(reply.refusal or "the endpoint's content filter")[:300])
    if len(reply.text) > CHARS_PER_TOKEN * config.max_output_tokens + SLACK_CHARS:
        limit = f"{config.stage}.max_output_tokens {config.max_output_tokens:,}"
        raise Unusable("malformed_answer", f"{len(reply.text):,} characters, far more than {limit} can make")
    try:
        return read(reply.text)
    except Unusable as error:
        if reply.finish == "length":
            detail = f"cut after {config.max_output_tokens:,} tokens ({config.stage}.max_output_tokens)"
            raise Unusable("malformed_answer", detail) from error
        raise
    except (ValueError, RecursionError) as error:  # of the JSON, say a number of 5,000 digits
        raise Unusable("malformed_answer", describe(error)) from error


def clean(text: str) -> str:
    """Valid UTF-8: an endpoint's JSON may hold half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def _object_in(answer: str) -> dict[str, Any]:
    """The last JSON object of an answer that is not within another one. Raises Unusable."""
    text, place, found, failures = _without_thoughts(answer), 0, None, 0
    decoder = json.JSONDecoder()
    while opens := OPENS.search(text, place):
        try:
            found, place = decoder.raw_decode(text, opens.start())
        except (ValueError, RecursionError):
            place, failures = opens.start() + 1, failures + 1
            if failures > MOST_FAILURES:
                raise Unusable("malformed_answer", f"more than {MOST_FAILURES} braces that open no object") from None
    if isinstance(found, dict):
        return found
    if REFUSAL.match(text.strip()):
        raise Unusable("refused", "the model refused in words")
    raise Unusable("malformed_answer", "an empty answer" if not text.strip() else "no JSON object")


def _without_thoughts(answer: str) -> str:
    """Without <think>...</think>, and without all before the first end: a template may have left the start out."""
    _, *parts = answer.split("</think>")
    if not parts:
        return answer
    return "".join([*(part.partition("<think>")[0] for part in parts[:-1]), parts[-1]])
