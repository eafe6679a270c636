"""MarginMSE: the student's margin between positive and negative, drawn to the teacher's.

Shape letters: matryoshka.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.students.data.token_cache import TARGETS
from pipelines.students.objective.matryoshka import Step, cosines_at
from pipelines.students.objective.term import Scale, Term
from pipelines.students.training_config import ObjectiveConfig


class MarginMse(Term):
    """The mean over the step's triplets."""

    def __init__(self, config: ObjectiveConfig, width: int, teacher_width: int) -> None:
        super().__init__(config, width, teacher_width)
        self.scale = Scale(config.margin_scale)

    def start(self, steps: Sequence[Step]) -> None:
        student = [cosine_margins(step.embeddings_TD, *_triplets(step), self.config.dimensions) for step in steps]
        self.scale.start(torch.cat(student, dim=1), torch.cat([self._teacher_margins(step) for step in steps]))

    def forward(self, step: Step) -> Tensor:
        values_KB = margin_mse(
            step.embeddings_TD,
            *_triplets(step),
            self._teacher_margins(step),
            dimensions=self.config.dimensions,
            scale=self.scale(),
        )
        return values_KB.sum() / len(step.batch.triplets)

    def _teacher_margins(self, step: Step) -> Tensor:
        kind = self.config.margin_target.removesuffix("_margin")
        positive, negative = (step.targets[:, TARGETS.index(f"{side}_{kind}")] for side in ("positive", "negative"))
        return torch.as_tensor(positive - negative, device=step.embeddings_TD.device)


def _triplets(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of query, positive and negative."""
    batch = step.batch
    return step.on_device(batch.query), step.on_device(batch.positive), step.on_device(batch.negative)


def margin_mse(
    embeddings_TD: Tensor,
    query_B: Tensor,
    positive_B: Tensor,
    negative_B: Tensor,
    teacher_margin_B: Tensor,
    *,
    dimensions: Sequence[int],
    scale: float | Tensor,
) -> Tensor:
    """Squared gap between the student's and the teacher's margin, one per dimension and triplet.

    The student's margin is `scale * (cos(q, p) - cos(q, n))`; the difference of cosines is at most 2, and `scale`
    brings it to the units of the teacher's margin: 1 where the target is a margin of relevances or cosines, about 20
    where it is one of logits. Summed over K and B and divided by the number of triplets, this equals
    sentence-transformers' MatryoshkaLoss(MarginMSELoss) when scale is 1.

    Args:
        query_B, positive_B, negative_B: rows of embeddings_TD, int64.
        teacher_margin_B: target(q, p) - target(q, n) in the teacher's units.
        scale: a number, or a scalar tensor when it is fitted.
    Returns:
        Shape (K, B), in squared units of the teacher.
    Raises:
        ValueError: not one margin per triplet (subtraction would broadcast instead).
    Source: Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666; Kusupati et al. 2022, https://arxiv.org/abs/2205.13147.
    """
    if teacher_margin_B.shape != query_B.shape:
        raise ValueError(
            f"margin_mse got teacher margins of shape {tuple(teacher_margin_B.shape)}, expected "
            f"{tuple(query_B.shape)}: one margin per triplet, not one score per passage"
        )
    student_margin_KB = scale * cosine_margins(embeddings_TD, query_B, positive_B, negative_B, dimensions)
    return (student_margin_KB - teacher_margin_B.to(student_margin_KB.dtype)).square()


def cosine_margins(
    embeddings_TD: Tensor, query_B: Tensor, positive_B: Tensor, negative_B: Tensor, dimensions: Sequence[int]
) -> Tensor:
    """cos(q, p) - cos(q, n) of each triplet at each dimension, shape (K, B)."""
    positive_cosine_KB = cosines_at(embeddings_TD, query_B, positive_B, dimensions)
    return positive_cosine_KB - cosines_at(embeddings_TD, query_B, negative_B, dimensions)
