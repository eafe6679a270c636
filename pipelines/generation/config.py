"""What is asked of which model: the recipe's table [generate], beside what every stage that asks has.

`GenerateConfig.generator` names all of it that a row depends on, name@12hex, as a teacher is named.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipelines.asking.config import OF_ANSWERS, EndpointConfig
from pipelines.asking.prompts import lacks
from pipelines.generation import prompts
from pipelines.intake.layouts import RowChecks

RULES = 1
"""Of how answers are read and passages chosen: another number is another generator."""

OF_RANKING = {"rank_prompt", "candidates", "candidate_chars", "min_positive_grade", "max_negative_grade"}


class GenerateConfig(EndpointConfig, RowChecks):
    """Which model writes queries, how, and what may be spent. Stored with every version it produced."""

    stage: ClassVar[str] = "generate"
    unit: ClassVar[str] = "passages"
    role: ClassVar[str] = "generator"
    does: ClassVar[str] = "writes queries"
    undone: ClassVar[str] = "no query was written"
    shown: ClassVar[str] = "passage"
    share: ClassVar[tuple[str, str]] = ("pairs_share", "got a pair")

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
        names += sorted(OF_RANKING) if self.ranker == "llm" else []
        values = self.model_dump(mode="json")
        return {"rules": RULES, **{name: values[name] for name in names}}

    @property
    def generator(self) -> str:
        """name@12hex. Raises UserError where no model is named."""
        return self.who
