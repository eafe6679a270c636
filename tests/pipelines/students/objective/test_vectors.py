"""The regression to vectors against the distance of both vectors, cut and normalised, in float64."""

import pytest
import torch
from torch.nn import functional

from pipelines.students.objective.vectors import vector_regression
from tests.embeddings import DIMENSIONS, EXACT, embeddings, gradient


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_vector_regression_equals_the_distance_of_both_vectors_cut_and_normalised(distance):
    student, teacher = embeddings(5), embeddings(5, seed=1).detach()
    expected = []
    for dimension in DIMENSIONS:
        s = functional.normalize(student[:, :dimension], dim=-1)
        t = functional.normalize(teacher[:, :dimension], dim=-1)
        expected.append((s - t).square().sum(-1) if distance == "l2" else 1 - (s * t).sum(-1))

    ours = vector_regression(student, teacher, dimensions=DIMENSIONS, distance=distance)

    torch.testing.assert_close(ours, torch.stack(expected), **EXACT)
    torch.testing.assert_close(gradient(ours.sum(), student), gradient(torch.stack(expected).sum(), student), **EXACT)


def test_vector_regression_refuses_a_teacher_of_another_width():
    with pytest.raises(ValueError, match="as wide as the student's"):
        vector_regression(embeddings(5), embeddings(5, width=16), dimensions=[8])
