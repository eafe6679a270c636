"""The regression to vectors against the distance of both vectors, cut and normalised, in float64."""

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss
from torch.nn import functional

from pipelines.students.objective.vectors import AS_IT_IS, principal_axes, procrustes_projection, vector_regression
from tests.embeddings import DIMENSIONS, EXACT, Given, embeddings, gradient


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


@pytest.mark.parametrize(("width", "teacher_width"), [(32, 48), (32, 20), (32, 32)])
def test_a_projection_takes_the_cut_embedding_by_its_first_columns_to_the_whole_teacher(width, teacher_width):
    student, teacher = embeddings(5, width), embeddings(5, teacher_width, seed=1).detach()
    projection = embeddings(teacher_width, width, seed=2)
    expected = torch.stack(
        [
            (functional.normalize(student[:, :k] @ projection[:, :k].T, dim=-1) - functional.normalize(teacher, dim=-1))
            .square()
            .sum(-1)
            for k in DIMENSIONS
        ]
    )

    ours = vector_regression(student, teacher, dimensions=DIMENSIONS, projection_ED=projection)

    torch.testing.assert_close(ours, expected, **EXACT)
    for of in (student, projection):
        torch.testing.assert_close(gradient(ours.sum(), of), gradient(expected.sum(), of), **EXACT)


def test_a_projection_of_the_whole_embedding_equals_sentence_transformers_embed_distill_loss():
    student, teacher = embeddings(6, 32), embeddings(6, 48, seed=1).detach()
    library = EmbedDistillLoss(Given(32), distance_metric="cosine", projection_dim=48).double()
    torch.nn.init.zeros_(library.projection.bias)
    weight = library.projection.weight
    columns = [{"sentence_embedding": student[:3]}, {"sentence_embedding": student[3:]}]
    expected = library(columns, torch.stack([teacher[:3], teacher[3:]], dim=1))

    ours = vector_regression(student, teacher, dimensions=[32], distance="cosine", projection_ED=weight).sum() / 6

    torch.testing.assert_close(ours, expected, **EXACT)
    for of in (student, weight):
        torch.testing.assert_close(gradient(ours, of), gradient(expected, of), **EXACT)


@pytest.mark.parametrize("teacher_width", [12, 5])
def test_a_projection_starts_as_the_best_orthonormal_one_over_all_dimensions(teacher_width):
    """Of all of them, the polar factor of a matrix M has the largest trace with it: `W.T M` is symmetric, positive."""
    student, teacher = embeddings(100, 8).detach(), embeddings(100, teacher_width, seed=1).detach()
    unit_student, unit_teacher = functional.normalize(student, dim=-1), functional.normalize(teacher, dim=-1)
    cross = unit_teacher.T @ unit_student
    cross[:, :3] *= 2  # both dimensions, 8 and 3, keep these
    as_it_is = torch.eye(teacher_width, 8, dtype=torch.float64)
    cross += AS_IT_IS * torch.linalg.svdvals(cross).square().mean().sqrt() * as_it_is

    projection = procrustes_projection(student, teacher, [8, 3])

    smaller = projection.T @ projection if teacher_width > 8 else projection @ projection.T
    torch.testing.assert_close(smaller, torch.eye(len(smaller), dtype=torch.float64), **EXACT)
    product = projection.T @ cross
    torch.testing.assert_close(product, product.T, **EXACT)
    assert torch.linalg.eigvalsh(product).min() > -1e-12


def test_a_projection_to_a_turned_copy_of_the_student_starts_there_and_to_itself_leaves_it_as_it_is():
    student = embeddings(100, 8).detach()
    turn, _ = torch.linalg.qr(embeddings(12, 8, seed=2).detach())

    torch.testing.assert_close(procrustes_projection(student, student @ turn.T, [8]), turn, rtol=0, atol=0.01)
    itself = torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close(procrustes_projection(student, student, [8]), itself, **EXACT)
    few = procrustes_projection(student[:1], student[:1], [8])  # says nothing of seven directions
    torch.testing.assert_close(few, itself, **EXACT)


@pytest.mark.parametrize("projection", [None, torch.eye(20, 32)])
def test_vector_regression_refuses_a_teacher_of_another_width(projection):
    with pytest.raises(ValueError, match="as wide as the student's"):
        vector_regression(embeddings(5), embeddings(5, width=16), dimensions=[8], projection_ED=projection)


def test_principal_axes_keep_cosines_and_put_the_largest_coordinates_first():
    vectors = functional.normalize(embeddings(200, 8).detach() * torch.linspace(0.2, 3, 8), dim=-1)

    axes = principal_axes(vectors, 8)
    turned = vectors @ axes.T

    torch.testing.assert_close(turned @ turned.T, vectors @ vectors.T, **EXACT)
    second_moment = turned.T @ turned / 200
    torch.testing.assert_close(second_moment, torch.diag(second_moment.diagonal()), **EXACT)
    assert (second_moment.diagonal().diff() < 0).all()
    assert (axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)) > 0).all()
    torch.testing.assert_close(principal_axes(vectors, 3), axes[:3], **EXACT)
