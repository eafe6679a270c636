"""InfoNCE against cross-entropy over each query's passages, written out, in float64."""

import pytest
import torch
from torch.nn import functional

from pipelines.students.objective.info_nce import info_nce
from tests.embeddings import EXACT, embeddings, gradient


def test_info_nce_equals_cross_entropy_over_the_positive_and_the_passages_not_known_as_positive():
    texts = embeddings(9)
    is_positive = torch.zeros(3, 6, dtype=torch.bool)
    is_positive[0, [0, 3]] = is_positive[1, 1] = is_positive[2, [1, 2, 5]] = True
    temperature = 0.05
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for row, dimension in enumerate([32, 8]):
        unit = functional.normalize(texts[:, :dimension], dim=-1)
        logits = unit[:3] @ unit[3:].T / temperature
        for query in range(3):
            negatives = [passage for passage in range(6) if not is_positive[query, passage]]
            positives = [passage for passage in range(6) if is_positive[query, passage]]
            losses = [
                functional.cross_entropy(logits[query, [positive, *negatives]], torch.tensor(0))
                for positive in positives
            ]
            expected[row, query] = torch.stack(losses).mean()

    ours = info_nce(texts[:3], texts[3:], is_positive, dimensions=[32, 8], temperature=temperature)

    torch.testing.assert_close(ours, expected, **EXACT)
    torch.testing.assert_close(gradient(ours.sum(), texts), gradient(expected.sum(), texts), **EXACT)


def test_info_nce_of_a_query_without_negatives_is_zero_with_a_zero_gradient():
    texts = embeddings(3)

    loss = info_nce(texts[:1], texts[1:], torch.tensor([[True, True]]), dimensions=[32], temperature=0.05)

    assert loss.tolist() == [[0.0]]
    assert gradient(loss.sum(), texts).abs().max() == 0


def test_info_nce_refuses_a_query_without_positive():
    texts = embeddings(4)
    with pytest.raises(ValueError, match="at least one positive"):
        info_nce(texts[:2], texts[2:], torch.tensor([[True, False], [False, False]]), dimensions=[8], temperature=1.0)


def test_info_nce_is_float32_under_autocast_and_for_16_bit_embeddings():
    texts = embeddings(8).detach().to(torch.bfloat16)
    mask = torch.eye(4, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = info_nce(texts[:4], texts[4:], mask, dimensions=[16], temperature=0.05)

    exact = texts.float()
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, info_nce(exact[:4], exact[4:], mask, dimensions=[16], temperature=0.05))
