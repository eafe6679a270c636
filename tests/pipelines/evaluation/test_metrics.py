"""Metrics against values worked out by hand; the test and the intervals against scipy and closed forms."""

import math
from itertools import product

import numpy as np
import polars as pl
import pytest
from scipy import stats

from pipelines.evaluation.metrics import mean_interval, per_query, randomisation_p_value

SEEDED = np.random.default_rng(7)


def by_metric(frame: pl.DataFrame, query: str) -> dict[str, float]:
    return dict(frame.filter(pl.col("query_id") == query).select("metric", "value").rows())


def test_metrics_equal_those_worked_out_by_hand():
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    found = 1 / math.log2(3) + 2 / math.log2(5)

    measured = by_metric(per_query({"q": {"a": 2, "b": 1, "c": 1, "d": 0}}, {"q": ["d", "b", "x", "a"]}), "q")

    assert measured == pytest.approx({"nDCG@10": found / ideal, "RR@10": 1 / 2, "R@100": 2 / 3})


@pytest.mark.parametrize(
    ("rank", "expected"),
    [(10, {"nDCG@10": 1 / math.log2(11), "RR@10": 1 / 10, "R@100": 1}), (11, {"nDCG@10": 0, "RR@10": 0, "R@100": 1})],
)
def test_cutoffs_include_rank_ten_and_not_rank_eleven(rank, expected):
    ranking = [f"x{i}" for i in range(1, rank)] + ["relevant"]

    assert by_metric(per_query({"q": {"relevant": 1}}, {"q": ranking}), "q") == pytest.approx(expected)


def test_a_query_without_results_counts_as_zero():
    frame = per_query({"found": {"a": 1}, "empty": {"a": 1}, "absent": {"a": 1}}, {"found": ["a"], "empty": []})

    assert frame.height == 9
    assert by_metric(frame, "empty") == by_metric(frame, "absent") == {"nDCG@10": 0, "RR@10": 0, "R@100": 0}


def test_the_ten_best_documents_stand_with_the_metric_that_looks_at_them():
    ranking = [f"x{number}" for number in range(12)]
    frame = per_query({"found": {"x3": 1}, "empty": {"x3": 1}, "absent": {"x3": 1}}, {"found": ranking, "empty": []})

    ranked = {(query, metric): ids for query, metric, _, ids in frame.rows() if ids is not None}
    assert ranked == {("found", "nDCG@10"): ranking[:10], ("empty", "nDCG@10"): [], ("absent", "nDCG@10"): []}


def test_the_ranking_decides_whatever_the_ids_sort_as():
    first = per_query({"q": {"z": 1}}, {"q": ["z", "a"]})
    second = per_query({"q": {"a": 1}}, {"q": ["a", "z"]})

    assert by_metric(first, "q") == by_metric(second, "q") == {"nDCG@10": 1, "RR@10": 1, "R@100": 1}


def test_p_value_equals_the_one_worked_out_by_hand():
    """Differences 1, 1, 1, 1: of 16 exchanges only the two without a mixed sign are as large."""
    p_value = randomisation_p_value(np.ones(4), np.zeros(4), num_permutations=100_000, seed=1)

    assert p_value == pytest.approx(2 / 16, abs=0.005)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1, 0.2])
def test_p_value_agrees_with_scipy(shift):
    left = SEEDED.random(60)
    right = left + shift + 0.3 * SEEDED.standard_normal(60)

    ours = randomisation_p_value(left, right, num_permutations=20_000, seed=1)
    reference = stats.permutation_test(
        (left, right), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=20_000, rng=np.random.default_rng(2),
    )  # fmt: skip

    assert ours == pytest.approx(reference.pvalue, abs=0.02)


def test_p_value_is_the_share_of_all_exchanges_that_are_as_large():
    left, right = np.array([0.3, 0.1, 0.2, 0.5, 0.4, 0.1]), np.array([0.1, 0.2, 0.4, 0.1, 0.2, 0.4])
    differences = np.array([2, -1, -2, 4, 2, -3])  # tenths
    sums = [abs(sum(signs * differences)) for signs in product([-1, 1], repeat=6)]
    expected = sum(one >= abs(sum(differences)) for one in sums) / 2**6

    p_value = randomisation_p_value(left, right, num_permutations=100_000, seed=1)

    assert p_value == pytest.approx(expected, abs=0.005)


def test_sums_that_differ_by_rounding_alone_are_equal():
    """The differences add up to nothing, in float64 to 2.8e-17; some exchanges to 0, which is not less."""
    left, right = np.array([0.2, 0.5, 0.9, 0.6, 0.6, 0.6]), np.array([0.8, 0.3, 0.4, 0.5, 0.5, 0.9])

    assert randomisation_p_value(left, right, num_permutations=999, seed=5) == 1


def test_one_query_proves_nothing():
    assert randomisation_p_value(np.array([0.9]), np.array([0.1]), num_permutations=99, seed=0) == 1
    assert mean_interval(np.array([0.9]), num_resamples=99, seed=0) == (0.9, 0.9, 0.9)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_an_interval_of_equal_values_has_no_width(value):
    assert mean_interval(np.full(50, value), num_resamples=99, seed=0) == (value, value, value)


def test_p_value_is_one_for_equal_systems_symmetric_and_repeatable():
    left, right = SEEDED.random(30), SEEDED.random(30)
    forwards, backwards, again = (
        randomisation_p_value(*pair, num_permutations=999, seed=5)
        for pair in [(left, right), (right, left), (left, right)]
    )

    assert randomisation_p_value(left, left, num_permutations=999, seed=5) == 1
    assert forwards == backwards == again


def test_unpaired_values_are_refused():
    with pytest.raises(ValueError, match="one pair per query"):
        randomisation_p_value(np.ones(3), np.ones(4), num_permutations=9, seed=0)


def test_interval_is_the_mean_plus_or_minus_two_standard_errors_of_many_values():
    values = SEEDED.normal(0.5, 0.2, 4_000)

    interval = mean_interval(values, num_resamples=4_000, seed=3)

    half_width = 1.96 * values.std() / math.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)


def test_interval_agrees_with_scipy_on_a_skewed_paired_difference():
    difference = SEEDED.exponential(0.1, 80) - SEEDED.exponential(0.05, 80)

    ours = mean_interval(difference, num_resamples=20_000, seed=1)
    reference = stats.bootstrap(
        (difference,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval

    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=2e-3)
