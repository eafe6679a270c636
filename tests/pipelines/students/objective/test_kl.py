"""The listwise KL against torch's kl_div by hand and sentence-transformers' own class, in float64."""

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MatryoshkaLoss
from torch.nn import functional

from pipelines.students.objective.kl import listwise_kl
from tests.embeddings import DIMENSIONS, EXACT, Given, embeddings, gradient

QUERY, PASSAGE = np.array([0, 1, 0, 2, 1, 0]), np.array([3, 3, 4, 5, 6, 7])  # 3, 2 and 1 candidates, in any order
SCORES = torch.tensor([4.0, -1.0, 2.5, 9.0, 0.5, -3.0], dtype=torch.float64)


def test_kl_equals_torch_s_over_each_query_s_candidates_and_is_zero_of_a_single_one():
    texts = embeddings(8)
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for row, dimension in enumerate([8, 32]):
        unit = functional.normalize(texts[:, :dimension], dim=-1)
        for query in range(3):
            its = np.flatnonzero(query == QUERY)
            student = (unit[query] @ unit[PASSAGE[its]].T / 0.05).log_softmax(dim=0)
            expected[row, query] = functional.kl_div(student, (SCORES[its] / 2).softmax(dim=0), reduction="sum")

    ours = listwise_kl(
        texts, QUERY, PASSAGE, SCORES, dimensions=[8, 32], student_temperature=0.05, teacher_temperature=2.0
    )

    assert ours[:, 2].tolist() == [0, 0]
    torch.testing.assert_close(ours, expected, **EXACT)
    torch.testing.assert_close(gradient(ours.sum(), texts), gradient(expected.sum(), texts), **EXACT)


def test_kl_times_the_student_s_temperature_squared_is_sentence_transformers_distill_kl_div():
    """Which takes one number of candidates for all queries, and the dot product: of unit length under Matryoshka."""
    texts, scores = embeddings(8), SCORES.reshape(2, 3)
    kl = DistillKLDivLoss(model := Given(32), student_temperature=0.1, teacher_temperature=3.0)
    columns = [{"sentence_embedding": texts[index]} for index in ([0, 1], [2, 5], [3, 6], [4, 7])]
    expected = MatryoshkaLoss(model, kl, matryoshka_dims=DIMENSIONS)(columns, scores)

    ours = listwise_kl(
        texts,
        np.array([0, 0, 0, 1, 1, 1]),
        np.arange(2, 8),
        scores.flatten(),
        dimensions=DIMENSIONS,
        student_temperature=0.1,
        teacher_temperature=3.0,
    )

    torch.testing.assert_close(0.1**2 * ours.sum() / 2, expected, **EXACT)
    torch.testing.assert_close(gradient(0.1**2 * ours.sum() / 2, texts), gradient(expected, texts), **EXACT)


def test_kl_of_a_student_that_scores_as_its_teacher_is_zero():
    texts = embeddings(8)
    cosines = functional.cosine_similarity(texts[QUERY], texts[PASSAGE]).detach()

    ours = listwise_kl(texts, QUERY, PASSAGE, cosines, dimensions=[32], student_temperature=1, teacher_temperature=1)

    torch.testing.assert_close(ours, torch.zeros_like(ours), **EXACT)
    assert gradient(ours.sum(), texts).abs().max() < 1e-15


def test_kl_of_candidates_far_below_the_best_has_finite_gradients():
    texts = embeddings(8).detach().float().requires_grad_()

    ours = listwise_kl(
        texts, QUERY, PASSAGE, 1e4 * SCORES.float(), dimensions=[32], student_temperature=1e-3, teacher_temperature=0.01
    )

    assert ours.isfinite().all()
    assert gradient(ours.sum(), texts).isfinite().all()


def test_kl_refuses_targets_that_would_broadcast():
    with pytest.raises(ValueError, match="one per candidate"):
        listwise_kl(
            embeddings(8), QUERY, PASSAGE, SCORES[:, None], dimensions=[8], student_temperature=1, teacher_temperature=1
        )
