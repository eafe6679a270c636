"""Ranking metrics per query (ir_measures), and what their differences are worth: intervals and a paired test (scipy).

    qrels, rankings  --per_query-->  query_id, metric, value  --mean_interval, randomisation_p_value-->  figures

Arrays hold one value per query. Everything random takes a seed: the same values give the same figures.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ir_measures
import numpy as np
import polars as pl
import scipy  # its parts load when they are used: scipy.stats alone takes half a second
from ir_measures import RR, R, nDCG
from numpy.typing import NDArray

MEASURES = (nDCG @ 10, RR @ 10, R @ 100)
METRICS = tuple(str(measure) for measure in MEASURES)  # nDCG@10, RR@10 (the mean of it is MRR@10), R@100
DEPTH = 100  # passages per query that the metrics look at
RANKED = 10  # of them so many are kept by name: what the first metric looks at

Values = NDArray[np.float64]
_BATCH = 1 << 20  # values resampled at a time: 8 MB as float64, of which scipy holds some copies


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
        query_id, metric, value, ranked_ids; one row per query of `qrels` and metric, 0 where nothing was retrieved. The
        first metric's rows have the documents that it looks at, the best first; the others' null.
    """
    run = {
        query: {document: float(len(ranking) - rank) for rank, document in enumerate(ranking)}
        for query, ranking in rankings.items()
    }
    plain_qrels = {query: dict(grades) for query, grades in qrels.items()}
    measured = {(m.query_id, str(m.measure)): float(m.value) for m in ir_measures.iter_calc(MEASURES, plain_qrels, run)}
    rows = [
        (query, metric, measured.get((query, metric), 0.0), ranked if metric == METRICS[0] else None)
        for query in qrels
        for ranked in [list(rankings.get(query, ()))[:RANKED]]
        for metric in METRICS
    ]
    columns = {"query_id": pl.String(), "metric": pl.String(), "value": pl.Float64()}
    return pl.DataFrame(rows, {**columns, "ranked_ids": pl.List(pl.String)}, orient="row")


def mean_interval(values: Values, *, num_resamples: int, seed: int) -> Interval:
    """The mean and its 95 % bootstrap interval; for a paired difference pass the differences."""
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, mean, mean)
    generator = np.random.default_rng(seed)
    found = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=num_resamples, batch=_batch(values), method="percentile", rng=generator
    )
    low, high = found.confidence_interval
    return Interval(mean, float(low), float(high))


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
    generator = np.random.default_rng(seed)
    found = scipy.stats.monte_carlo_test(
        difference,
        rvs=lambda size: difference * (generator.integers(0, 2, size, dtype=np.int8) * 2.0 - 1.0),
        # rounded: means of the same numbers in another order count as equal
        statistic=lambda differences, axis: np.abs(differences.mean(axis=axis)).round(12),
        vectorized=True,
        n_resamples=num_permutations,
        batch=_batch(difference),
        alternative="greater",
    )
    return float(found.pvalue)


def _batch(values: Values) -> int:
    return max(1, _BATCH // len(values))
