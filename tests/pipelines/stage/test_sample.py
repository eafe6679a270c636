"""A ratio over clusters: against formulas by hand, and against samples drawn from a whole that is known."""

import math

import numpy as np
import polars as pl
import pytest

from pipelines.stage.sample import Ratio, ratio, sums


def ratio_of(clusters: list[tuple[int, int]], sampled: float) -> Ratio:
    """Of clusters of (rows, dropped rows)."""
    frame = pl.DataFrame(clusters, schema=["rows", "dropped"], orient="row")
    return ratio(sampled, **frame.select(**sums("dropped", "rows")).row(0, named=True))


def test_value_and_error_are_those_of_the_textbook():
    found = ratio_of([(4, 1), (2, 2), (6, 3)], sampled=0.25)

    # value 6 / 12; residuals 1 - 2, 2 - 1, 3 - 3; variance (1 - f) n / (n - 1) sum(residual ** 2) / 12 ** 2
    assert found.value == pytest.approx(0.5)
    assert found.standard_error == pytest.approx(math.sqrt(0.75 * 3 / 2 * 2 / 144))


def test_sums_of_parts_add_up():
    rows = pl.DataFrame({"rows": [4, 2, 6, 5], "dropped": [1, 2, 3, 0]})
    parts = [rows[:1], rows[1:]]

    added = pl.concat([part.select(**sums("dropped", "rows")) for part in parts]).sum()
    assert added.equals(rows.select(**sums("dropped", "rows")))


def test_what_was_sampled_whole_is_certain():
    assert ratio_of([(4, 1)], sampled=1.0) == Ratio(0.25, 0.0, 1, 4.0, 1.0)
    assert ratio_of([(4, 1)], sampled=1.0).interval() == (0.25, 0.25)


def test_a_few_queries_that_lost_nothing_promise_little():
    low, high = ratio_of([(3, 0)] * 5, sampled=0.01).interval()

    assert low == 0
    assert 0.4 < high < 0.5
    assert ratio_of([(8, 4)], sampled=0.01).interval()[1] - ratio_of([(8, 4)], sampled=0.01).interval()[0] > 0.7


def test_nineteen_of_twenty_samples_hold_the_whole_in_their_interval():
    chance = np.random.default_rng(0)
    rows = chance.integers(1, 9, 20_000)
    dropped = chance.binomial(rows, chance.beta(0.6, 1.2, 20_000))  # queries differ: rows of one are alike
    whole, held = dropped.sum() / rows.sum(), 0
    for _ in range(400):
        drawn = chance.choice(20_000, 150, replace=False)
        low, high = ratio_of(list(zip(rows[drawn].tolist(), dropped[drawn].tolist(), strict=True)), 0.0075).interval()
        held += low <= whole <= high

    assert 368 <= held <= 392  # 380 expected, 4.4 standard deviation
    flat = [(int(n), int(k)) for n, k in zip(rows[:150], dropped[:150], strict=True)]
    low, high = ratio_of(flat, 0.0075).interval()
    assert 0.06 < high - low < 0.2


def test_a_sample_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"whose sum is 0\.0"):
        ratio_of([(0, 0)], sampled=0.5)
