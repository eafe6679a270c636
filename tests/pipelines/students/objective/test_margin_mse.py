"""MarginMSE against sentence-transformers' own class and against the formula written out, in float64."""

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MarginMSELoss, MatryoshkaLoss
from torch.nn import functional

from pipelines.students.objective.margin_mse import margin_mse
from tests.embeddings import DIMENSIONS, EXACT, Given, embeddings, gradient

TRIPLETS = (
    torch.tensor([0, 0, 1, 2]),
    torch.tensor([3, 3, 4, 5]),
    torch.tensor([6, 4, 7, 3]),
)  # texts stand in several
MARGINS = torch.tensor([4.5, -1.25, 9.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("dimensions", [DIMENSIONS, [32], [8], [24, 8, 32, 16]])
def test_margin_mse_equals_sentence_transformers_matryoshka_margin_mse_in_loss_and_gradient(dimensions):
    texts = embeddings(8)
    library = MatryoshkaLoss(model := Given(32), MarginMSELoss(model), matryoshka_dims=dimensions)
    columns = [{"sentence_embedding": texts[index]} for index in TRIPLETS]
    expected = library(columns, MARGINS)

    ours = margin_mse(texts, *TRIPLETS, MARGINS, dimensions=dimensions, scale=1.0).sum() / len(MARGINS)

    torch.testing.assert_close(ours, expected, **EXACT)
    torch.testing.assert_close(gradient(ours, texts), gradient(expected, texts), **EXACT)


def test_margin_mse_scales_the_students_margin_not_the_teachers():
    texts = embeddings(8)
    query, positive, negative = (functional.normalize(texts[index][:, :16], dim=-1) for index in TRIPLETS)
    expected = (20 * ((query * positive).sum(-1) - (query * negative).sum(-1)) - MARGINS) ** 2
    scale = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)

    ours = margin_mse(texts, *TRIPLETS, MARGINS, dimensions=[16], scale=scale)

    torch.testing.assert_close(ours[0], expected, **EXACT)
    assert gradient(ours.sum(), scale) != 0  # so a scale can be fitted


def test_margin_mse_refuses_margins_that_would_broadcast():
    with pytest.raises(ValueError, match="one margin per triplet"):
        margin_mse(embeddings(8), *TRIPLETS, MARGINS[:, None], dimensions=[8], scale=1.0)


def test_margin_mse_is_float32_under_autocast_and_for_16_bit_embeddings():
    texts = embeddings(8).detach().to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = margin_mse(texts, *TRIPLETS, MARGINS, dimensions=[16], scale=20.0)

    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, margin_mse(texts.float(), *TRIPLETS, MARGINS, dimensions=[16], scale=20.0))
