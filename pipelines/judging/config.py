"""Which pairs are judged, by which model, and how: the recipe's table [relabel].

A judge is told a query and one passage, so a verdict depends on no other passage and on no teacher.
"""

from typing import Any, ClassVar

from pydantic import Field, model_validator

from pipelines.asking.config import OF_ANSWERS, EndpointConfig
from pipelines.asking.prompts import lacks
from pipelines.stage.config import Config
from pipelines.storage.fingerprint import fingerprint_of
from pipelines.teachers.config import KINDS

RULES = 1
"""Of how answers are read: another number is another judge."""

JUDGE = """\
Query: {query}

Passage:
{passage}

Is this passage relevant to the query? It is if it answers it, or a part of it, or holds what someone who types the \
query searches for. A passage about the same subject that does not answer the query is not relevant.

Answer with one JSON object and nothing else: {"verdict": "relevant"} or {"verdict": "not_relevant"}"""

PLACES = ("query", "passage")


class Margins(Config):
    """How close a negative's score must be to its positive's, for each kind of teacher."""

    cross_encoder: float = 1.0
    """In logits."""

    bi_encoder: float = 0.05
    """In cosines."""


class RelabelConfig(EndpointConfig):
    """Which model judges which pairs, and what may be spent. Stored with every version it produced."""

    stage: ClassVar[str] = "relabel"
    unit: ClassVar[str] = "pairs"
    role: ClassVar[str] = "judge"
    does: ClassVar[str] = "judges passages"
    undone: ClassVar[str] = "no passage was judged"
    shown: ClassVar[str] = "passage"
    share: ClassVar[tuple[str, str]] = ("relevant_share", "were judged relevant")

    suspect_margin: Margins = Margins()
    """A negative is suspected where the teacher scores it less than this below its positive, or above it."""

    negatives_per_query: int | None = Field(8, ge=1)
    """Of a query the negatives nearest to their positives, or above them; null is all that are suspected."""

    judge_positives: bool = False
    """Whether the positives of these rows are judged, too: one that is not relevant is then no positive."""

    temperature: float | None = Field(0.0, ge=0, le=2)
    """null leaves it to the endpoint."""

    judge_prompt: str = JUDGE
    """Asks for a verdict; {query} and {passage} are filled in."""

    passage_chars: int = Field(8_000, ge=100)
    """Characters of the passage that the model is shown."""

    max_pairs: int | None = Field(None, ge=1)
    """So many pairs are judged, chosen by their ids: the first thousand are part of the first two thousand."""

    max_held_pairs: int = Field(2_000_000, ge=1)
    """More pairs are refused: they are held in memory, with their texts."""

    @model_validator(mode="after")
    def has_its_places(self) -> "RelabelConfig":
        if problem := lacks(self.judge_prompt, PLACES):
            raise ValueError(f"judge_prompt {problem}")
        return self

    def meaning(self) -> dict[str, Any]:
        """All that a verdict depends on beside query and passage."""
        values = self.model_dump(mode="json")
        return {"rules": RULES, **{name: values[name] for name in (*OF_ANSWERS, *OF_JUDGING)}}

    def margin(self, teacher_kind: str) -> float:
        """In that kind of teacher's units."""
        margins = self.suspect_margin
        return margins.cross_encoder if KINDS[teacher_kind].unit == "logits" else margins.bi_encoder

    def selection(self, teacher_kind: str) -> str:
        """12 hex digits over what chooses the pairs of a version."""
        chosen = [self.margin(teacher_kind), self.negatives_per_query, self.judge_positives, self.max_pairs]
        return fingerprint_of(chosen)


OF_JUDGING = ("temperature", "judge_prompt", "passage_chars")
