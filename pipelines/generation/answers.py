"""The model's answers, checked: a task and a query, or grades; where they cannot be used, the reason.

Reasons beside those of any answer (pipelines/asking/answers.py): `nothing_to_ask` (the model says so of the passage),
`copies_the_passage`.
"""

import re
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, field_validator

from pipelines.asking.answers import Unusable, checked
from pipelines.texts.comparison import is_blank, visible
from pipelines.texts.ids import encoding_error


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
    found = checked(_Written, answer)
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
    grades = checked(_Grades, answer).grades
    wanted = [str(number) for number in range(1, count + 1)]
    if sorted(grades) != sorted(wanted):
        raise Unusable("malformed_answer", f"grades of {len(grades):,} passages, expected one for each of {count:,}")
    if wrong := [grade for grade in grades.values() if not 0 <= grade <= 3]:
        raise Unusable("malformed_answer", f"a grade of {wrong[0]}, expected 0 to 3")
    return [grades[number] for number in wanted]
