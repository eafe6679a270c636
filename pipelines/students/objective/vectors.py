"""Regression to the teacher's vectors: every text of the step where a bi-encoder teacher puts it.

Shape letters: matryoshka.py.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.students.objective.matryoshka import Step, cosines_of_rows, products_at
from pipelines.students.objective.term import Term
from pipelines.students.training_config import ObjectiveConfig

AS_IT_IS = 1e-3
"""How much a start leaves each coordinate where it is, of what the texts say: it decides where they say nothing."""


class Vectors(Term):
    """The mean over the step's texts, queries and passages."""

    axes: Tensor | None  # (D, E), of the teacher's vectors; None: compared as they are

    def __init__(self, config: ObjectiveConfig, width: int, teacher_width: int) -> None:
        super().__init__(config, width, teacher_width)
        self.projection = nn.Parameter(torch.eye(teacher_width, width)) if config.vectors_projection else None
        self.register_buffer("axes", torch.eye(width, teacher_width) if config.vectors_axes == "principal" else None)

    @property
    def is_of_each_text(self) -> bool:
        return self.projection is None

    def start(self, steps: Sequence[Step]) -> None:
        student_TD = torch.cat([step.embeddings_TD for step in steps])
        teacher_TE = torch.cat([_teacher(step) for step in steps])
        if self.projection is not None:
            self.projection.copy_(procrustes_projection(student_TD, teacher_TE, self.config.dimensions))
        if self.axes is not None:
            self.axes.copy_(principal_axes(teacher_TE, len(self.axes)))

    def rotation(self, steps: Sequence[Step]) -> Tensor | None:
        """What turns the student's embeddings of the steps nearest to the teacher's axes, (D, D); None without axes."""
        if self.axes is None:
            return None
        student_TD = torch.cat([step.embeddings_TD for step in steps])
        target_TD = torch.cat([self._target(step) for step in steps])
        return procrustes_projection(student_TD, target_TD, [student_TD.shape[1]])

    def _target(self, step: Step) -> Tensor:
        teacher_TE = _teacher(step)
        return teacher_TE if self.axes is None else teacher_TE @ self.axes.to(teacher_TE.dtype).T

    def forward(self, step: Step) -> Tensor:
        values_KT = vector_regression(
            step.embeddings_TD,
            self._target(step),
            dimensions=self.config.dimensions,
            distance=self.config.vectors_distance,
            projection_ED=self.projection,
        )
        return values_KT.sum() / len(step.batch.texts)


def _teacher(step: Step) -> Tensor:
    assert step.teacher_TD is not None, "the term `vectors` needs the teacher's vectors in the token cache"
    return step.teacher_TD


def vector_regression(
    student_BD: Tensor,
    teacher_BE: Tensor,
    *,
    dimensions: Sequence[int],
    distance: Literal["l2", "cosine"] = "l2",
    projection_ED: Tensor | None = None,
) -> Tensor:
    """Distance between the student's and the teacher's vector of each text, both of unit length.

    `l2` is the squared L2 distance of the unit vectors, `|s - t|^2 = 2 - 2 cos(s, t)`; `cosine` is `1 - cos(s, t)`,
    half of it, so the two differ only in weight. Without a projection both vectors are cut alike, which asks the
    student's first dimensions to rank as the teacher's first do. With one, the embedding cut to k is projected by the
    first k columns and compared with all of the teacher's vector: its first dimensions learn what matters most.

    Returns:
        Shape (K, B).
    Raises:
        ValueError: student and teacher vectors are not equally many, or not as wide as each other or the projection.
    Source: Vujanic and Rueckstiess 2025 (LEAF), https://arxiv.org/abs/2509.12539; student to teacher, trained
        throughout and kept: jina-embeddings-v5, https://arxiv.org/abs/2602.15547.
    """
    width = student_BD.shape[1] if projection_ED is None else projection_ED.shape[0]
    if teacher_BE.shape != (len(student_BD), width):
        raise ValueError(
            f"vector_regression got teacher vectors of shape {tuple(teacher_BE.shape)}, expected "
            f"{(len(student_BD), width)}: one per text, as wide as the student's, or as what they are projected to"
        )
    if projection_ED is None:
        cosine_KB = cosines_of_rows(student_BD, teacher_BE, dimensions)
    else:
        projected_KBE = products_at(student_BD, projection_ED, dimensions)
        cosine_KB = torch.cat([cosines_of_rows(projected_BE, teacher_BE, [width]) for projected_BE in projected_KBE])
    return (1 - cosine_KB) * (2.0 if distance == "l2" else 1.0)


def procrustes_projection(student_TD: Tensor, teacher_TE: Tensor, dimensions: Sequence[int]) -> Tensor:
    """The W with orthonormal columns (rows, where E < D) and the least sum over dimensions of `|W[:, :k] s[:k] - t|^2`.

    Orthonormal, since the student is published without it: then its own cosines, at every dimension, are those that
    the loss brings to the teacher's. A free least-squares fit would bend them. Both vectors of unit length when whole;
    in float64. Shape (E, D).

    Source: Schoenemann 1966, https://doi.org/10.1007/BF02289451 (orthogonal Procrustes).
    """
    student_TD, teacher_TE = (functional.normalize(vectors.double(), dim=-1) for vectors in (student_TD, teacher_TE))
    column_D = torch.arange(student_TD.shape[1], device=student_TD.device)
    num_cuts_D = torch.stack([column_D < dimension for dimension in dimensions]).sum(dim=0)  # that keep the column
    cross_ED = teacher_TE.T @ student_TD * num_cuts_D
    mean_singular_value = cross_ED.norm() / min(cross_ED.shape) ** 0.5
    cross_ED.diagonal().add_(AS_IT_IS * mean_singular_value)
    left_EM, _, right_MD = torch.linalg.svd(cross_ED, full_matrices=False)
    projection_ED: Tensor = left_EM @ right_MD
    return projection_ED


def principal_axes(vectors_TE: Tensor, num_axes: int) -> Tensor:
    """The directions along which vectors of unit length are largest in the mean square, the largest first.

    About the origin, not about the mean: cosines are what is to be kept, and a shift would change them. In float64;
    each axis points to where its largest coordinate is positive.

    Returns:
        Shape (num_axes, E), orthonormal rows.
    Source: principal component analysis, uncentred; Eckart and Young 1936, https://doi.org/10.1007/BF02288367.
    """
    unit_TE = functional.normalize(vectors_TE.double(), dim=-1)
    _, ascending_EE = torch.linalg.eigh(unit_TE.T @ unit_TE)
    axes_AE: Tensor = ascending_EE.T.flip(0)[:num_axes]
    largest_A1 = axes_AE.gather(1, axes_AE.abs().argmax(dim=1, keepdim=True))
    axes_AE *= largest_A1.sign()
    return axes_AE
