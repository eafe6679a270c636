"""The pointwise regression against sentence-transformers' cosine loss and the formula, in float64."""

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss, MatryoshkaLoss
from torch.nn import functional

from pipelines.students.objective.pointwise import pointwise
from tests.embeddings import DIMENSIONS, EXACT, Given, embeddings, gradient

QUERY, PASSAGE = torch.tensor([0, 0, 1, 2]), torch.tensor([3, 4, 4, 5])
SCORES = torch.tensor([0.875, 0.125, -0.25, 0.5], dtype=torch.float64)  # exact in float32, to which the library casts


class Mse(torch.nn.MSELoss):
    """Of labels that the library has cast to float32."""

    def forward(self, output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return super().forward(output, labels.to(output.dtype))


def test_pointwise_equals_sentence_transformers_matryoshka_cosine_similarity_loss():
    texts = embeddings(6)
    library = MatryoshkaLoss(model := Given(32), CosineSimilarityLoss(model, Mse()), matryoshka_dims=DIMENSIONS)
    expected = library([{"sentence_embedding": texts[index]} for index in (QUERY, PASSAGE)], SCORES)

    ours = pointwise(texts, QUERY, PASSAGE, SCORES, dimensions=DIMENSIONS, scale=1.0, offset=0.0).sum() / 4

    torch.testing.assert_close(ours, expected, **EXACT)
    torch.testing.assert_close(gradient(ours, texts), gradient(expected, texts), **EXACT)


def test_pointwise_scales_and_moves_the_student_s_cosine_not_the_teacher_s_score():
    texts = embeddings(6)
    scale, offset = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (12.0, -4.0))
    cosines = functional.cosine_similarity(texts[QUERY][:, :8], texts[PASSAGE][:, :8])
    expected = (12 * cosines - 4 - SCORES) ** 2

    ours = pointwise(texts, QUERY, PASSAGE, SCORES, dimensions=[8], scale=scale, offset=offset)

    torch.testing.assert_close(ours[0], expected, **EXACT)
    torch.testing.assert_close(gradient(ours.sum(), offset), 2 * (12 * cosines - 4 - SCORES).sum(), **EXACT)
    torch.testing.assert_close(gradient(ours.sum(), scale), (2 * (12 * cosines - 4 - SCORES) * cosines).sum(), **EXACT)


def test_pointwise_refuses_targets_that_would_broadcast():
    with pytest.raises(ValueError, match="one per candidate"):
        pointwise(embeddings(6), QUERY, PASSAGE, SCORES[:, None], dimensions=[8], scale=1.0, offset=0.0)
