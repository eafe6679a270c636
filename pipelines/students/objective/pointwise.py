"""Pointwise regression: the student's cosine with each candidate, scaled, drawn to what the teacher says of it.

Shape letters: matryoshka.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipelines.students.objective.matryoshka import Step, cosines_at
from pipelines.students.objective.term import Scale, Term
from pipelines.students.training_config import ObjectiveConfig


class Pointwise(Term):
    """The mean over the step's candidates."""

    def __init__(self, config: ObjectiveConfig, width: int, teacher_width: int) -> None:
        super().__init__(config, width, teacher_width)
        self.scale = Scale(config.pointwise_scale)
        self.offset = nn.Parameter(torch.zeros(())) if config.pointwise_offset == "fitted" else None

    def start(self, steps: Sequence[Step]) -> None:
        cosine_KC = torch.cat([cosines_at(*_candidates(step), self.config.dimensions) for step in steps], dim=1)
        target_C = torch.cat([step.candidate_target(self.config.pointwise_target) for step in steps])
        self.scale.start(cosine_KC - cosine_KC.mean(dim=1, keepdim=True), target_C - target_C.mean())
        if self.offset is not None:
            self.offset.copy_(target_C.mean() - (self.scale() * cosine_KC).mean())

    def forward(self, step: Step) -> Tensor:
        values_KC = pointwise(
            *_candidates(step),
            step.candidate_target(self.config.pointwise_target),
            dimensions=self.config.dimensions,
            scale=self.scale(),
            offset=self._offset(),
        )
        return values_KC.sum() / max(1, len(step.batch.candidates))

    def _offset(self) -> float | Tensor:
        if self.offset is not None:
            return self.offset
        assert self.config.pointwise_offset != "fitted"
        return self.config.pointwise_offset


def _candidates(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """The embeddings, and the rows of each candidate's query and passage."""
    batch = step.batch
    return step.embeddings_TD, step.on_device(batch.candidate_query), step.on_device(batch.candidate_passage)


def pointwise(
    embeddings_TD: Tensor,
    query_C: Tensor,
    passage_C: Tensor,
    teacher_C: Tensor,
    *,
    dimensions: Sequence[int],
    scale: float | Tensor,
    offset: float | Tensor,
) -> Tensor:
    """Squared gap between `scale * cos(q, p) + offset` and what the teacher says of each candidate.

    Args:
        query_C, passage_C: rows of embeddings_TD, int64.
        teacher_C: in the teacher's units, to which scale and offset bring the cosine.
    Returns:
        Shape (K, C), in squared units of the teacher.
    Raises:
        ValueError: not one target per candidate (subtraction would broadcast instead).
    Source: the regression to a teacher's scores that Ettin's rerankers were trained by, here of a cosine.
    """
    if teacher_C.shape != query_C.shape:
        raise ValueError(
            f"pointwise got targets of shape {tuple(teacher_C.shape)}, expected {tuple(query_C.shape)}: one per "
            "candidate"
        )
    student_KC = scale * cosines_at(embeddings_TD, query_C, passage_C, dimensions) + offset
    return (student_KC - teacher_C.to(student_KC.dtype)).square()
