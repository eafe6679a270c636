"""The objective sums what each term says of the whole step, each with its own normaliser, and keeps what it trains."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipelines.stage.errors import UserError
from pipelines.students.data.plan import StepBatch
from pipelines.students.objective.matryoshka import Step
from pipelines.students.objective.registry import TERMS, Objective
from pipelines.students.training_config import ObjectiveConfig
from tests.embeddings import embeddings

BATCH = StepBatch(  # two queries (texts 0 and 1), three triplets, four candidates
    texts=np.arange(5),
    query=np.array([0, 0, 1]),
    positive=np.array([2, 2, 3]),
    negative=np.array([3, 4, 2]),
    triplets=np.arange(3),
    is_query=np.array([True, True, False, False, False]),
    candidate_query=np.array([0, 0, 0, 1]),
    candidate_passage=np.array([2, 3, 4, 3]),
    candidates=np.arange(4),
)
TARGETS = np.array([[2.0, 1.0, 0.9, 0.2], [2.0, -1.0, 0.9, 0.1], [3.0, 0.5, 0.7, 0.4]])
CANDIDATE_TARGETS = np.array([[2.0, 0.9], [1.0, 0.2], [-1.0, 0.1], [3.0, 0.7]])


def step(teacher_width: int = 32) -> Step:
    teacher = embeddings(5, teacher_width, seed=1).detach()
    return Step(embeddings(5), BATCH, TARGETS, teacher, CANDIDATE_TARGETS)


def objective(teacher_width: int = 32, **fields) -> Objective:
    config = ObjectiveConfig(**({"dimensions": (32,), "margin_mse": 0} | fields))
    return Objective(config, 32, teacher_width).double()


def test_every_weight_of_the_config_has_its_term_and_every_term_its_weight():
    assert list(ObjectiveConfig().weights()) == list(TERMS)


def test_only_what_is_on_asks_for_the_teachers_vectors():
    share = {"info_nce_false_negative_share": 0.95}
    assert ObjectiveConfig(vectors=0.5).weights_on_teacher_vectors() == {"vectors": 0.5}
    assert ObjectiveConfig(info_nce=1.0).weights_on_teacher_vectors() == {}
    assert ObjectiveConfig(info_nce=1.0, **share).weights_on_teacher_vectors() == share
    assert ObjectiveConfig(**share).weights_on_teacher_vectors() == {}


def test_loss_is_the_weighted_sum_of_means_over_triplets_queries_texts_and_candidates():
    texts, *_ = given = step()
    weights = {"margin_mse": 2.0, "info_nce": 0.5, "vectors": 0.25, "kl": 0.75, "pointwise": 3.0, "spread_out": 1.5}
    unit, cosines = functional.normalize(texts, dim=-1), functional.cosine_similarity(texts[:, None], texts, dim=-1)
    margins = [cosines[q, p] - cosines[q, n] for q, p, n in zip(*BATCH[1:4], strict=True)]
    logits = cosines[:2, 2:] / 0.05  # of either query, against passages 2, 3 and 4
    relevances = torch.tensor([0.9, 0.2, 0.1, 0.7], dtype=torch.float64)
    others = [cosines[i, j] ** 2 for i, j in [(2, 3), (2, 4), (3, 4)]]
    expected = {
        "margin_mse": sum((margin - target) ** 2 for margin, target in zip(margins, [1.0, 3.0, 2.5], strict=True)) / 3,
        "info_nce": functional.cross_entropy(logits, torch.tensor([0, 1])),
        "vectors": (unit - functional.normalize(given.teacher_TD, dim=-1)).square().sum() / 5,
        "kl": functional.kl_div(logits[0].log_softmax(0), (relevances[:3] / 0.05).softmax(0), reduction="sum"),
        "pointwise": (torch.cat([cosines[0, 2:], cosines[1, 3:4]]) - relevances).square().mean(),
        "spread_out": (cosines[0, 1] ** 2 - 1 / 32).relu() + (sum(others) / 3 - 1 / 32).relu(),
    }

    loss, terms = objective(margin_target="score_margin", **weights)(given)

    assert {term: value.item() for term, value in terms.items()} == pytest.approx(
        {term: value.item() for term, value in expected.items()}
    )
    assert loss.item() == pytest.approx(sum(weights[term] * value.item() for term, value in expected.items()))


def test_a_term_that_is_off_is_not_computed_and_trains_nothing():
    one = objective(margin_mse=1.0, vectors_projection=True)

    _, terms = one(step()._replace(teacher_TD=None))

    assert list(terms) == ["margin_mse"]
    assert not list(one.parameters())
    assert not one.is_to_start


def test_false_negatives_are_told_by_the_teachers_vectors_of_any_width():
    given = step(teacher_width=7)
    unit = functional.normalize(given.teacher_TD, dim=-1)
    cosines = functional.cosine_similarity(given.embeddings_TD[:2, None], given.embeddings_TD[2:], dim=-1) / 0.05
    losses = []
    for query, positive in ((0, 0), (1, 1)):
        by_teacher = unit[query] @ unit[2:].T
        left = [p for p in range(3) if p == positive or by_teacher[p] <= by_teacher[positive] - 0.3]
        losses.append(functional.cross_entropy(cosines[query, left], torch.tensor(left.index(positive))))
    masked = {"info_nce_false_negative_share": 1.0, "info_nce_false_negative_margin": 0.3}

    loss, _ = objective(info_nce=1.0, **masked)(given)

    assert loss.item() == pytest.approx(torch.stack(losses).mean().item())
    assert loss.item() != pytest.approx(objective(info_nce=1.0)(given)[0].item())


FITTED = {"margin_mse": 1.0, "margin_scale": "fitted", "pointwise": 1.0, "pointwise_target": "score"}
FITTED |= {"pointwise_scale": "fitted", "pointwise_offset": "fitted", "vectors": 1.0, "vectors_projection": True}


def test_what_is_fitted_starts_where_the_student_s_values_are_as_large_as_the_teacher_s():
    one, given = objective(48, **FITTED, margin_target="score_margin"), step(48)
    cosines = functional.cosine_similarity(given.embeddings_TD[:, None], given.embeddings_TD, dim=-1).detach()
    margins = torch.stack([cosines[q, p] - cosines[q, n] for q, p, n in zip(*BATCH[1:4], strict=True)])
    candidates = cosines[BATCH.candidate_query, BATCH.candidate_passage]
    scores = torch.tensor([2.0, 1.0, -1.0, 3.0], dtype=torch.float64)
    slope = scores.std() / candidates.std()

    one.start([given])

    margin_mse, pointwise = one.terms["margin_mse"], one.terms["pointwise"]
    teacher = torch.tensor([1.0, 3.0, 2.5], dtype=torch.float64)
    assert margin_mse.scale().item() == pytest.approx((teacher.norm() / margins.norm()).item())
    assert pointwise.scale().item() == pytest.approx(slope.item())
    assert pointwise.offset.item() == pytest.approx((scores.mean() - slope * candidates.mean()).item())
    assert one(given)[1]["vectors"] < objective(48, **FITTED)(given)[1]["vectors"] / 2
    assert not one.is_to_start


def test_what_is_trained_is_saved_and_taken_up_by_the_terms_that_have_it(tmp_path):
    one, given = objective(48, **FITTED), step(48)
    one.start([given])
    one.save(tmp_path / "saved")

    same, more = objective(48, **FITTED), objective(48, **FITTED | {"margin_scale": 1.0})
    same.take_up(tmp_path / "saved")
    more.take_up(tmp_path / "saved")

    assert torch.equal(same(given)[0], one(given)[0])
    assert not same.is_to_start
    assert not more.is_to_start
    more.save(tmp_path / "less")
    part = objective(48, **FITTED)
    part.take_up(tmp_path / "less")
    assert part.is_to_start
    part.start([given])
    assert torch.equal(part(given)[0], one(given)[0])
    objective(info_nce=1.0).save(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_projection_to_another_teacher_s_width_is_refused(tmp_path):
    objective(48, **FITTED).save(tmp_path / "saved")

    with pytest.raises(UserError, match=r"vectors.projection has shape \(48, 32\), expected \(40, 32\)"):
        objective(40, **FITTED).take_up(tmp_path / "saved")
