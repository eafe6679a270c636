"""Ranking metrics per query (ir_measures), and what their differences are worth: intervals and a paired test.

    qrels, rankings  --per_query-->  query_id, metric, value  --mean_interval, randomisation_p_value-->  figures

Arrays hold one value per query. Everything random takes a seed: the same values give the same figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import ir_measures
import numpy as np
import polars as pl
from ir_measures import RR, R, nDCG
from numpy.typing import NDArray

MEASURES = (nDCG @ 10, RR @ 10, R @ 100)
METRICS = tuple(str(measure) for measure in MEASURES)  # nDCG@10, RR@10 (the mean of it is MRR@10), R@100
DEPTH = 100  # passages per query that the metrics look at

Values = NDArray[np.float64]
_BLOCK = 1 << 22  # random numbers held at a time: 32 MB as float64


class Interval(NamedTuple):
    """A mean over queries and its 95 % confidence interval, by the percentiles of bootstrap means."""

    mean: float
    low: float
    high: float


def per_query(qrels: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """Every metric of every query.

    Args:
        qrels: query id -> document id -> grade (relevant above 0; nDCG's gain is the grade).
        rankings: query id -> document ids, best first. Their order is final: no ties are left to the metrics.
    Returns:
        query_id, metric, value; one row per query of `qrels` and metric, 0 where nothing was retrieved.
    """
    run = {
        query: {document: float(len(ranking) - rank) for rank, document in enumerate(ranking)}
        for query, ranking in rankings.items()
    }
    plain_qrels = {query: dict(grades) for query, grades in qrels.items()}
    measured = {(m.query_id, str(m.measure)): float(m.value) for m in ir_measures.iter_calc(MEASURES, plain_qrels, run)}
    rows = [(query, metric, measured.get((query, metric), 0.0)) for query in qrels for metric in METRICS]
    return pl.DataFrame(rows, {"query_id": pl.String, "metric": pl.String, "value": pl.Float64}, orient="row")


def mean_interval(values: Values, *, num_resamples: int, seed: int) -> Interval:
    """The mean and its 95 % bootstrap interval; for a paired difference pass the differences."""
    num_queries = len(values)
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            values[generator.integers(0, num_queries, (block, num_queries))].mean(axis=1)
            for block in _blocks(num_resamples, num_queries)
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def randomisation_p_value(left: Values, right: Values, *, num_permutations: int, seed: int) -> float:
    """Two-sided p-value of the paired randomisation test on the difference of means.

    Were both systems the same, each query's two values could change places: the p-value is the share of random
    exchanges whose difference is at least as large as the one seen, which itself counts as one exchange.

    Raises:
        ValueError: the two are not paired.
    Source: Smucker, Allan and Carterette 2007, A comparison of statistical significance tests for IR evaluation.
    """
    if left.shape != right.shape or left.ndim != 1 or not len(left):
        raise ValueError(f"the test got values of shapes {left.shape} and {right.shape}; expected one pair per query")
    difference = left - right
    observed = abs(difference.sum())
    tolerance = 1e-9 * max(np.abs(difference).sum(), 1e-300)  # sums of the same numbers in another order
    generator = np.random.default_rng(seed)
    num_as_large = 0
    for block in _blocks(num_permutations, len(difference)):
        signs = generator.integers(0, 2, (block, len(difference)), dtype=np.int8) * 2.0 - 1.0
        num_as_large += int((np.abs(signs @ difference) >= observed - tolerance).sum())
    return (num_as_large + 1) / (num_permutations + 1)


def _blocks(num_rows: int, row_length: int) -> Iterator[int]:
    """Row counts that add up to `num_rows`, each block within the memory bound."""
    block = max(1, _BLOCK // row_length)
    for start in range(0, num_rows, block):
        yield min(block, num_rows - start)
