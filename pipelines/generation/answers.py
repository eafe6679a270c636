"""The model's answers, checked: a task and a query, or grades; where they cannot be used, the reason.

An answer is one JSON object, as asked; what models put around it (a fence, thoughts in <think>) is passed over.
Reasons: `refused`, `malformed_answer`, `nothing_to_ask` (the model says so of the passage), `copies_the_passage`.
"""

import json
import re
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from pipelines.texts.comparison import is_blank, visible
from pipelines.texts.ids import encoding_error

THOUGHTS = re.compile(r"<think>.*?</think>|^.*?</think>", re.DOTALL)
REFUSAL = re.compile(
    r"^\W*(i['\u2019]?\s?a?m (very |really )?(sorry|unable)|sorry\b"
    r"|i (can(no|['\u2019])t|can not|won['\u2019]t|will not)\b"
    r"|as an ai\b|i must decline|unable to (comply|help|assist))",
    re.IGNORECASE,
)


Kind = TypeVar("Kind", bound=BaseModel)


class Unusable(ValueError):
    """An answer of which nothing can be made."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Written(NamedTuple):
    task: str
    query: str


class _Written(BaseModel):
    model_config = ConfigDict(strict=True)

    task: str
    query: str


class _Grades(BaseModel):
    model_config = ConfigDict(strict=True)

    grades: dict[str, int]

    @field_validator("grades", mode="before")
    @classmethod
    def as_numbers(cls, value: Any) -> Any:
        """A list of grades in order, and whole numbers as text or float, are as good."""
        if isinstance(value, list):
            value = {str(number): grade for number, grade in enumerate(value, 1)}
        return {name: _whole(grade) for name, grade in value.items()} if isinstance(value, dict) else value


def _whole(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\s*\d\s*", value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_written(answer: str, passage: str, max_query_chars: int) -> Written:
    """The task and the query. Raises Unusable."""
    found = _checked(_Written, answer)
    task, query = found.task.strip(), found.query.strip()
    if is_blank(query):
        raise Unusable("nothing_to_ask", "the query is empty")
    if is_blank(task):
        raise Unusable("malformed_answer", "the task is empty")
    if not re.search(r"\w", query):  # "...", as the prompt has it
        raise Unusable("malformed_answer", "the query has no word")
    if problem := encoding_error(query) or encoding_error(task):
        raise Unusable("malformed_answer", problem)
    if len(query) > max_query_chars or len(task) > max_query_chars:
        found_chars = max(len(query), len(task))
        raise Unusable("malformed_answer", f"{found_chars:,} characters, expected at most {max_query_chars:,}")
    if visible(query) == visible(passage):
        raise Unusable("copies_the_passage", "the query is the passage")
    return Written(task, query)


def read_grades(answer: str, count: int) -> list[int]:
    """The grades 0 to 3 of so many candidates, in their order. Raises Unusable."""
    grades = _checked(_Grades, answer).grades
    wanted = [str(number) for number in range(1, count + 1)]
    if sorted(grades) != sorted(wanted):
        raise Unusable("malformed_answer", f"grades of {len(grades):,} passages, expected one for each of {count:,}")
    if wrong := [grade for grade in grades.values() if not 0 <= grade <= 3]:
        raise Unusable("malformed_answer", f"a grade of {wrong[0]}, expected 0 to 3")
    return [grades[number] for number in wanted]


def _checked(kind: type[Kind], answer: str) -> Kind:
    try:
        return kind.model_validate(_object_in(answer))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Unusable("malformed_answer", f"{place}: {first['msg']}"[:300]) from error


def _object_in(answer: str) -> dict[str, Any]:
    """The last JSON object of an answer that is not within another one. Raises Unusable."""
    text, place, found = THOUGHTS.sub("", answer), 0, None
    decoder = json.JSONDecoder()
    while (place := text.find("{", place)) >= 0:
        try:
            found, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
    if isinstance(found, dict):
        return found
    if REFUSAL.match(text.strip()):
        raise Unusable("refused", "the model refused in words")
    raise Unusable("malformed_answer", "an empty answer" if not text.strip() else "no JSON object")
