"""What is asked of which model: the recipe's table [generate], beside what every stage that asks has.

`GenerateConfig.generator` names all of it that a row depends on, name@12hex, as a teacher is named.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipelines.asking.config import OF_ANSWERS, EndpointConfig
from pipelines.asking.prompts import lacks
from pipelines.generation import prompts
from pipelines.intake.layouts import RowChecks
from pipelines.stage.errors import UserError
from pipelines.teachers.config import KINDS, TeacherConfig, name_teacher

RULES = 1
"""Of how answers are read and passages chosen: another number is another generator."""

OF_GRADES = {"rank_prompt", "candidates", "candidate_chars", "min_positive_grade", "max_negative_grade"}

SAME_WITHIN = {"logits": 0.5, "cosines": 0.05}
"""Scores of a teacher that are no further apart count as equal, in its units."""


class GenerateConfig(EndpointConfig, RowChecks):
    """Which model writes queries, how, and what may be spent. Stored with every version it produced."""

    stage: ClassVar[str] = "generate"
    unit: ClassVar[str] = "passages"
    role: ClassVar[str] = "generator"
    does: ClassVar[str] = "writes queries"
    undone: ClassVar[str] = "no query was written"
    shown: ClassVar[str] = "passage"
    share: ClassVar[tuple[str, str]] = ("pairs_share", "got a pair")

    ranker: Literal["llm", "teacher", "seed"] = "llm"
    """Who names the positive: the model grades candidates; or a teacher scores them, at no price; or nobody does, and
    it is the passage that the query was written from."""

    candidates: int = Field(20, ge=1, le=100)
    """Passages that are ranked for a query: BM25's best, the seed among them."""

    teacher: TeacherConfig | None = None
    """Who ranks, where `ranker` is "teacher": the recipe's [score], in float32 where that says auto. Filled in."""

    same_within: float | None = Field(None, ge=0)
    """Candidates whose score is at most this below the best one's answer the query, too, and the seed is preferred to
    the others of them; in the teacher's units, null is 0.5 for logits and 0.05 for cosines."""

    min_positive_grade: int = Field(2, ge=1, le=3)
    """A query of which no candidate has this grade, 0 to 3, is left out."""

    max_negative_grade: int = Field(1, ge=0, le=2)
    """The negative is the candidate that BM25 ranks highest of those with at most this grade."""

    temperature: float | None = Field(0.7, ge=0, le=2)
    """Of the model's choice of words; null leaves it to the endpoint. Grades are asked for at 0."""

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

    max_passages: int | None = Field(None, ge=1)
    """So many passages get a query, chosen by their ids: the first thousand are part of the first two thousand."""

    @field_validator("teacher", mode="before")
    @classmethod
    def is_the_recipes(cls, value: Any) -> Any:
        """`ranked_by` fills it in."""
        if value is not None:
            raise ValueError("expected none here: who ranks is the recipe's teacher, --set score.teacher=...")
        return value

    @model_validator(mode="after")
    def fits_together(self) -> "GenerateConfig":
        for name, places in (("write_prompt", prompts.WRITE_PLACES), ("rank_prompt", prompts.RANK_PLACES)):
            if problem := lacks(getattr(self, name), places):
                raise ValueError(f"{name} {problem}")
        if self.max_negative_grade >= self.min_positive_grade:
            raise ValueError("expected max_negative_grade below min_positive_grade")
        return self

    def meaning(self) -> dict[str, Any]:
        """All that a row depends on beside its passage and the passages that it is ranked with."""
        names = [*OF_ANSWERS, "ranker", "temperature", "write_prompt", "passage_chars", "max_query_chars"]
        names += sorted(OF_GRADES) if self.ranker == "llm" else []
        values = self.model_dump(mode="json")
        meaning = {"rules": RULES, **{name: values[name] for name in names}}
        if self.ranker == "teacher":
            named = {"teacher": name_teacher(self.ranking_teacher()), "same_within": self.tolerance()}
            meaning |= {"candidates": self.candidates, **named}
        return meaning

    def ranked_by(self, score: TeacherConfig) -> Self:
        """With a recipe's teacher as the one who ranks, where it is to rank."""
        if self.ranker != "teacher":
            return self
        teacher = TeacherConfig.part_of(score.model_dump())
        if teacher.precision == "auto":
            teacher = teacher.model_copy(update={"precision": "float32"})
        return self.model_copy(update={"teacher": teacher})

    def ranking_teacher(self) -> TeacherConfig:
        """Raises UserError where there is none."""
        if self.teacher is None:
            raise UserError('generate.ranker is "teacher", and there is none; expected `ranked_by` to name one')
        return self.teacher

    def tolerance(self) -> float:
        """How far scores may be apart that count as equal."""
        unit = KINDS[self.ranking_teacher().teacher_kind].unit
        return SAME_WITHIN[unit] if self.same_within is None else self.same_within

    @property
    def generator(self) -> str:
        """name@12hex. Raises UserError where no model is named."""
        return self.who
