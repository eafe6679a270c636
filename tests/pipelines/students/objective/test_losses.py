"""Losses against sentence-transformers' own classes and against formulas written out, values and gradients, float64."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MarginMSELoss, MatryoshkaLoss
from torch import Tensor
from torch.nn import functional

from pipelines.students.objective.losses import cosines_at, info_nce, margin_mse, vector_regression

DIMENSIONS = [32, 24, 16, 8, 1]
EXACT = {"rtol": 1e-11, "atol": 1e-13}


class Given(SentenceTransformer):
    """A model whose forward hands back the embeddings it is given, so that the library's loss runs on ours."""

    def __init__(self, width: int) -> None:
        super().__init__(modules=[torch.nn.Identity()], device="cpu")
        self.width = width

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(features)

    def get_embedding_dimension(self) -> int:
        return self.width


def embeddings(num_texts: int, width: int = 32, seed: int = 0) -> Tensor:
    """Float64, of any length: what a model without Normalize would give."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.linspace(0.1, 5, num_texts, dtype=torch.float64)[:, None]
    return (torch.randn(num_texts, width, dtype=torch.float64, generator=generator) * scales).requires_grad_()


def gradient(value: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(value, of)[0]


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


def test_losses_are_float32_under_autocast_and_for_16_bit_embeddings():
    texts = embeddings(8).detach().to(torch.bfloat16)
    exact = texts.float()
    mask = torch.eye(4, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        margins = margin_mse(texts, *TRIPLETS, MARGINS, dimensions=[16], scale=20.0)
        contrast = info_nce(texts[:4], texts[4:], mask, dimensions=[16], temperature=0.05)

    assert margins.dtype == contrast.dtype == torch.float32
    torch.testing.assert_close(margins, margin_mse(exact, *TRIPLETS, MARGINS, dimensions=[16], scale=20.0))
    torch.testing.assert_close(contrast, info_nce(exact[:4], exact[4:], mask, dimensions=[16], temperature=0.05))
