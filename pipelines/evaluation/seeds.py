"""What several seeds of one recipe are worth: means with intervals over queries and seeds, and paired differences.

    one value per data set, seed and query  --by_set-->  a matrix per set  --estimate-->  mean, spread, 95 % interval

Seeds and queries are crossed: each seed's model answers every query, and both are samples. Of several data sets the
figure is the mean of their means, and a seed's model is the same in all of them.

Shape letters, this file only: S = seeds, Q = queries of a data set, B = bootstrap samples.
"""

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

Matrix = NDArray[np.float64]  # (S, Q)
Verdict = Literal["better", "worse", "not told apart"]
NORMAL = 1.959963984540054  # 97.5 % quantile
_BATCH = 1 << 20  # queries drawn at a time


class Estimate(NamedTuple):
    """A mean and its 95 % interval over queries and seeds."""

    mean: float
    spread: float | None  # standard deviation of the seeds' own means; None of a single seed
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """Of a difference: whether its interval leaves 0 out."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not told apart"


def by_set(values: pl.DataFrame) -> dict[str, Matrix]:
    """Data set -> one row per seed, one column per query, both in order.

    Args:
        values: data_set, seed, query_id, value.
    Raises:
        ValueError: a seed has not every query of a data set.
    """
    matrices = {}
    for (data_set,), rows in values.sort("data_set", "seed", "query_id").group_by("data_set", maintain_order=True):
        num_seeds, num_queries = rows["seed"].n_unique(), rows["query_id"].n_unique()
        if num_seeds * num_queries != len(rows) or rows.select("seed", "query_id").is_duplicated().any():
            raise ValueError(
                f"{data_set} has {len(rows)} values of {num_seeds} seeds and {num_queries} queries; expected one for "
                "each seed and query"
            )
        matrices[str(data_set)] = rows["value"].to_numpy().reshape(num_seeds, num_queries)
    return matrices


def estimate(matrices: Collection[Matrix], *, num_resamples: int, seed: int) -> Estimate:
    """The mean of the data sets' means, with its interval by a two-way bootstrap; for a difference pass differences.

    Each sample draws queries of every set, and seeds once for all sets, with replacement. One seed fewer is drawn than
    there are: the variance of few is then not underrated (S draws would give (S - 1) / S of it). The percentiles'
    distances from the mean are stretched by Student's t with Satterthwaite's degrees of freedom: hardly where queries
    decide, 2.2 times where three seeds alone do. Coverage is held by tests/pipelines/evaluation/test_seeds.py.

    Args:
        matrices: of shape (S, Q), S the same in all.
    Sources: Owen 2007, The pigeonhole bootstrap, https://arxiv.org/abs/0712.1111 (rows and columns of crossed data are
        drawn apart); McCarthy and Snowden 1985, The bootstrap and finite population sampling (n - 1 draws); Hesterberg
        2015, What teachers should know about the bootstrap, https://arxiv.org/abs/1411.5279 (expanded percentiles).
    """
    seed_means_S = np.mean([matrix.mean(axis=1) for matrix in matrices], axis=0)
    mean, num_seeds = float(seed_means_S.mean()), len(seed_means_S)
    spread = float(seed_means_S.std(ddof=1)) if num_seeds > 1 else None
    generator = np.random.default_rng(seed)
    resampled_BS = np.mean([_resampled(matrix, num_resamples, generator) for matrix in matrices], axis=0)
    draws = max(1, num_seeds - 1)
    weights_BS = generator.multinomial(draws, np.full(num_seeds, 1 / num_seeds), size=num_resamples) / draws
    low, high = np.percentile((resampled_BS * weights_BS).sum(axis=1), [2.5, 97.5])
    stretch = scipy.stats.t.ppf(0.975, degrees_of_freedom(matrices)) / NORMAL
    return Estimate(mean, spread, mean + stretch * min(0.0, low - mean), mean + stretch * max(0.0, high - mean))


def paired_difference(left: Mapping[str, Matrix], right: Mapping[str, Matrix]) -> list[Matrix]:
    """Left minus right by data set, seed and query; either may have one seed (a system without training).

    Raises:
        ValueError: they have other data sets or queries.
    """
    if left.keys() != right.keys() or any(left[name].shape[1] != right[name].shape[1] for name in left):
        raise ValueError(f"values on {sorted(left)} and {sorted(right)}; expected the same sets and queries")
    return [left[name] - right[name] for name in left]


def degrees_of_freedom(matrices: Collection[Matrix]) -> float:
    """Satterthwaite's, of the variance of a mean over crossed seeds and queries: from S - 1 to infinity.

    The mean squares of seeds, queries and the rest add up to that variance (the rest is in both of the others).
    Source: Satterthwaite 1946, An approximate distribution of estimates of variance components.
    """
    num_seeds, num_sets = len(next(iter(matrices))), len(matrices)
    variance, of_parts = 0.0, 0.0
    if num_seeds > 1:
        of_seeds = np.mean([matrix.mean(axis=1) for matrix in matrices], axis=0).var(ddof=1) / num_seeds
        variance, of_parts = of_seeds, of_seeds**2 / (num_seeds - 1)
    for matrix in matrices:
        num_queries = matrix.shape[1]
        if num_queries == 1:
            continue
        query_means_Q = matrix.mean(axis=0)
        of_queries = query_means_Q.var(ddof=1) / num_queries / num_sets**2
        variance, of_parts = variance + of_queries, of_parts + of_queries**2 / (num_queries - 1)
        if num_seeds > 1:
            rest = matrix - query_means_Q - matrix.mean(axis=1, keepdims=True) + matrix.mean()
            df = (num_seeds - 1) * (num_queries - 1)
            of_rest = (rest**2).sum() / df / matrix.size / num_sets**2
            variance, of_parts = variance - of_rest, of_parts + of_rest**2 / df
    fewest = max(1, num_seeds - 1)
    return float(max(fewest, variance**2 / of_parts)) if of_parts > 0 else np.inf


def _resampled(matrix: Matrix, num_resamples: int, generator: np.random.Generator) -> Matrix:
    """(B, S): each seed's mean over queries that are drawn, the same ones for all seeds."""
    num_queries = matrix.shape[1]
    rows = max(1, _BATCH // num_queries)
    sizes = [min(rows, num_resamples - start) for start in range(0, num_resamples, rows)]
    drawn = (generator.integers(0, num_queries, (size, num_queries)) for size in sizes)
    return np.concatenate([matrix.T[queries].mean(axis=1) for queries in drawn])
