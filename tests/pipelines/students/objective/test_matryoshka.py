"""Cosines at every dimension against torch's own, values and gradients."""

import pytest
import torch
from torch.nn import functional

from pipelines.students.objective.matryoshka import cosines_at
from tests.embeddings import EXACT, embeddings, gradient


def test_cosines_come_in_the_order_of_the_dimensions_asked_for():
    texts = embeddings(6)
    left, right = torch.tensor([0, 1, 5]), torch.tensor([2, 2, 5])

    cosines = cosines_at(texts, left, right, [8, 32, 16])

    for row, dimension in zip(cosines, [8, 32, 16], strict=True):
        expected = functional.cosine_similarity(texts[left][:, :dimension], texts[right][:, :dimension])
        torch.testing.assert_close(row, expected, **EXACT)


def test_an_embedding_of_zeros_has_cosine_zero_and_a_finite_gradient():
    texts = torch.zeros(2, 4, requires_grad=True)

    cosines = cosines_at(texts, torch.tensor([0]), torch.tensor([1]), [4, 2])

    assert cosines.tolist() == [[0.0], [0.0]]
    assert gradient(cosines.sum(), texts).tolist() == [[0.0] * 4] * 2


def test_gradients_are_the_same_bits_each_time_on_several_threads():
    texts = torch.randn(200, 768, generator=torch.Generator().manual_seed(0)).requires_grad_()
    left, right = torch.arange(2000) % 20, torch.arange(2000) % 170
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = [gradient(cosines_at(texts, left, right, [768, 64]).sum(), texts) for _ in range(10)]
    finally:
        torch.set_num_threads(threads)

    assert all(torch.equal(gradients[0], other) for other in gradients)


@pytest.mark.parametrize("dimensions", [[], [0], [33]])
def test_dimensions_outside_the_embedding_are_refused(dimensions):
    with pytest.raises(ValueError, match="from 1 to 32"):
        cosines_at(embeddings(3), torch.tensor([0]), torch.tensor([1]), dimensions)
