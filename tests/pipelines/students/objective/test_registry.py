"""The objective sums what each term says of the whole step, each with its own normaliser."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipelines.students.config import ObjectiveConfig
from pipelines.students.data.plan import StepBatch
from pipelines.students.objective.matryoshka import Step
from pipelines.students.objective.registry import TERMS, step_loss
from tests.embeddings import embeddings

BATCH = StepBatch(  # two queries (texts 0 and 1), three triplets
    texts=np.arange(5),
    query=np.array([0, 0, 1]),
    positive=np.array([2, 2, 3]),
    negative=np.array([3, 4, 2]),
    triplets=np.arange(3),
)
TARGETS = np.array([[2.0, 1.0, 0.9, 0.2], [2.0, -1.0, 0.9, 0.1], [3.0, 0.5, 0.7, 0.4]])


def test_every_weight_of_the_config_has_its_term_and_every_term_its_weight():
    assert list(ObjectiveConfig().weights()) == list(TERMS)


def test_only_terms_that_are_on_ask_for_the_teachers_vectors():
    assert ObjectiveConfig(vectors=0.5).weights_on_teacher_vectors() == {"vectors": 0.5}
    assert ObjectiveConfig(info_nce=1.0).weights_on_teacher_vectors() == {}


def test_loss_is_the_weighted_sum_of_means_over_triplets_queries_and_texts():
    texts, teacher = embeddings(5), embeddings(5, seed=1).detach()
    config = ObjectiveConfig(dimensions=(32,), margin_mse=2.0, info_nce=0.5, vectors=0.25, margin_target="score_margin")
    unit, cosines = functional.normalize(texts, dim=-1), functional.cosine_similarity(texts[:, None], texts, dim=-1)
    margins = [cosines[q, p] - cosines[q, n] for q, p, n in zip(*BATCH[1:4], strict=True)]
    logits = cosines[:2, 2:] / 0.05  # of either query, against passages 2, 3 and 4
    expected = {
        "margin_mse": sum((margin - target) ** 2 for margin, target in zip(margins, [1.0, 3.0, 2.5], strict=True)) / 3,
        "info_nce": functional.cross_entropy(logits, torch.tensor([0, 1])),
        "vectors": (unit - functional.normalize(teacher, dim=-1)).square().sum() / 5,
    }

    loss, terms = step_loss(Step(texts, BATCH, TARGETS, teacher), config)

    assert {term: value.item() for term, value in terms.items()} == pytest.approx(
        {term: value.item() for term, value in expected.items()}
    )
    assert loss.item() == pytest.approx(sum(config.weights()[term] * value.item() for term, value in expected.items()))


def test_a_term_that_is_off_is_not_computed():
    _, terms = step_loss(Step(embeddings(5), BATCH, TARGETS, teacher_TD=None), ObjectiveConfig(dimensions=(8,)))

    assert list(terms) == ["margin_mse"]


def test_a_config_without_any_term_is_refused():
    with pytest.raises(ValueError, match="margin_mse, info_nce, vectors are all 0, expected at least one above 0"):
        ObjectiveConfig(margin_mse=0)
