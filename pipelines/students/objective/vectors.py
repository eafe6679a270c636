"""Regression to the teacher's vectors: every text of the step where a bi-encoder teacher puts it.

Shape letters: matryoshka.py.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from pipelines.students.config import ObjectiveConfig
from pipelines.students.objective.matryoshka import Step, cosines_of_rows


def of_step(step: Step, config: ObjectiveConfig) -> Tensor:
    """The mean over the step's texts, queries and passages, summed over dimensions."""
    assert step.teacher_TD is not None, "the term `vectors` needs the teacher's vectors in the token cache"
    values_KT = vector_regression(
        step.embeddings_TD, step.teacher_TD, dimensions=config.dimensions, distance=config.vectors_distance
    )
    return values_KT.sum() / len(step.batch.texts)


def vector_regression(
    student_BD: Tensor, teacher_BD: Tensor, *, dimensions: Sequence[int], distance: Literal["l2", "cosine"] = "l2"
) -> Tensor:
    """Distance between the student's and the teacher's vector of each text, both cut alike and of unit length.

    `l2` is the squared L2 distance of the unit vectors, `|s - t|^2 = 2 - 2 cos(s, t)`; `cosine` is `1 - cos(s, t)`,
    half of it, so the two differ only in weight. Cutting the teacher's vector asks the student's first dimensions to
    rank as the teacher's first dimensions do.

    Returns:
        Shape (K, B).
    Raises:
        ValueError: student and teacher vectors are not equally many, or not equally wide.
    Source: Vujanic and Rueckstiess 2025 (LEAF), https://arxiv.org/abs/2509.12539.
    """
    if student_BD.shape != teacher_BD.shape:
        raise ValueError(
            f"vector_regression got teacher vectors of shape {tuple(teacher_BD.shape)}, expected "
            f"{tuple(student_BD.shape)}: one per text, as wide as the student's"
        )
    cosine_KB = cosines_of_rows(student_BD, teacher_BD, dimensions)
    return (1 - cosine_KB) * (2.0 if distance == "l2" else 1.0)
