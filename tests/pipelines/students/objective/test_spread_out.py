"""The spread-out regulariser against sentence-transformers' own class and the formula, in float64."""

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import GlobalOrthogonalRegularizationLoss
from torch.nn import functional

from pipelines.students.objective.spread_out import spread_out
from tests.embeddings import EXACT, Given, embeddings, gradient


def alike(num_texts: int, seed: int = 0) -> torch.Tensor:
    """Embeddings with something in common, as real ones have."""
    return (embeddings(num_texts, seed=seed).detach() + 1).requires_grad_()


@pytest.mark.parametrize("dimensions", [[32], [32, 16, 4]])
def test_spread_out_equals_sentence_transformers_global_orthogonal_regularization(dimensions):
    queries, passages = alike(6), alike(9, seed=1)
    library = GlobalOrthogonalRegularizationLoss(Given(32), mean_weight=0, aggregation="sum")
    expected = sum(
        library.compute_loss_from_embeddings([queries[:, :dimension], passages[:, :dimension]])["gor_second_moment"]
        for dimension in dimensions
    )

    ours = spread_out(queries, dimensions=dimensions).sum() + spread_out(passages, dimensions=dimensions).sum()

    assert ours > 0
    torch.testing.assert_close(ours, expected, **EXACT)
    for of in (queries, passages):
        torch.testing.assert_close(gradient(ours, of), gradient(expected, of), **EXACT)


def test_spread_out_is_embedding_gemma_s_mean_squared_cosine_less_that_of_random_directions():
    texts = alike(5)
    unit = functional.normalize(texts, dim=-1)
    squares = [(unit[i] @ unit[j]) ** 2 for i in range(5) for j in range(5) if i != j]

    ours = spread_out(texts, dimensions=[32])

    torch.testing.assert_close(ours[0], torch.stack(squares).mean() - 1 / 32, **EXACT)


@pytest.mark.parametrize("texts", [torch.eye(3, 4), torch.ones(1, 4), torch.ones(0, 4)])
def test_texts_already_spread_out_and_less_than_two_give_zero_with_a_zero_gradient(texts):
    texts = texts.clone().requires_grad_()

    loss = spread_out(texts, dimensions=[4])

    assert loss.tolist() == [0]
    assert gradient(loss.sum(), texts).abs().sum() == 0
