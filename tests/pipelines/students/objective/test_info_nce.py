"""InfoNCE against cross-entropy over each query's passages, written out, in float64."""

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss, MatryoshkaLoss
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from pipelines.students.objective.info_nce import false_negatives, info_nce
from tests.embeddings import EXACT, Given, embeddings, gradient


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


class GivenWithGuide(Given):
    """A student, and the guide as the library asks for one: each hands back its own part of what both are given."""

    def __init__(self, width: int, part: str) -> None:
        super().__init__(width)
        self.part, self.max_seq_length = part, 1

    def forward(self, features):
        return {"sentence_embedding": features[self.part]}

    @property
    def tokenizer(self):
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0})))


@pytest.mark.parametrize(
    ("strategy", "margin", "ours"),
    [("relative", 0.05, (0.95, 0.0)), ("absolute", 0.1, (1.0, 0.1)), ("absolute", 0.0, (1.0, 0.0))],
)
def test_what_the_teacher_takes_for_false_negatives_is_left_out_as_by_sentence_transformers_gist_embed(
    strategy, margin, ours
):
    """GISTEmbed's guide is a model; here it hands back the teacher's vectors. It has one positive a query."""
    texts, teacher = embeddings(24), teacher_near_by(24)
    student, guide = GivenWithGuide(32, "student"), GivenWithGuide(32, "teacher")
    gist = GISTEmbedLoss(student, guide, 0.05, strategy, margin, contrast_anchors=False, contrast_positives=False)
    library = MatryoshkaLoss(student, gist, matryoshka_dims=[32, 8])
    rows = [slice(0, 8), slice(8, 16), slice(16, 24)]
    expected = library([{"student": texts[of], "teacher": teacher[of]} for of in rows], torch.zeros(8))
    is_positive = torch.zeros(8, 16, dtype=torch.bool)
    is_positive[range(8), range(8)] = True
    unit = functional.normalize(teacher, dim=-1)
    is_false = false_negatives(unit[:8] @ unit[8:].T, is_positive, *ours)

    losses = info_nce(texts[:8], texts[8:], is_positive, dimensions=[32, 8], temperature=0.05, is_false_NP=is_false)

    assert 0 < (is_false & ~is_positive).float().mean() < 0.8
    torch.testing.assert_close(losses.sum() / 8, expected, **EXACT)
    torch.testing.assert_close(gradient(losses.sum() / 8, texts), gradient(expected, texts), **EXACT)


def teacher_near_by(num_texts: int) -> torch.Tensor:
    """Vectors with cosines from about 0 to 1: all of them near one direction, some more."""
    vectors = embeddings(num_texts, seed=1).detach()
    return functional.normalize(vectors, dim=-1) + functional.normalize(vectors[0], dim=-1)


def test_each_positive_of_a_query_has_the_false_negatives_that_its_own_cosine_tells():
    texts = embeddings(6)
    is_positive = torch.tensor([[True, True, False, False, False]])
    teacher = torch.tensor([[0.9, 0.5, 0.8, 0.35, -0.2]])
    logits = functional.cosine_similarity(texts[:1], texts[1:]) / 0.05

    is_false = false_negatives(teacher, is_positive, share=0.8, margin=0.0)  # above 0.72, above 0.4
    loss = info_nce(texts[:1], texts[1:], is_positive, dimensions=[32], temperature=0.05, is_false_NP=is_false)

    left = [functional.cross_entropy(logits[one], torch.tensor(0)) for one in ([0, 3, 4], [1, 3, 4])]
    torch.testing.assert_close(loss[0, 0], torch.stack(left).mean(), **EXACT)


def test_of_a_negative_cosine_a_share_is_still_the_stricter_the_smaller():
    is_false = false_negatives(torch.tensor([[-0.1, -0.105, -0.2]]), torch.tensor([[True, False, False]]), 0.9, 0.0)

    assert is_false.tolist() == [[True, True, False]]
