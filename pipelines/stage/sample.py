"""What a sample of clusters says of the whole: a ratio of two sums, its standard error, an interval for a share.

A cluster is drawn whole or not at all, as a query with all its rows: rows of one query are alike, and to take them for
independent ones would promise too much. Sources: the ratio and its variance, Cochran 1977, Sampling Techniques, 3rd
edition, 2.11 and 6.4; Wilson's interval (1927) at the sample's effective size, for clusters the best of those compared
by Dean and Pagano 2015, https://doi.org/10.1093/jssam/smv024.
"""

import math
from typing import NamedTuple

import polars as pl

Z_95 = 1.959964


class Ratio(NamedTuple):
    """sum(of) / sum(per) over the clusters, e.g. the share of rows that are dropped."""

    value: float
    standard_error: float  # 0 where everything was sampled; inf where one cluster says nothing of the others
    clusters: int
    per: float  # the sample's sum(per)
    sampled: float  # this part of the whole

    def interval(self) -> tuple[float, float]:
        """Of a share, 0 to 1, that 95 % of such samples hold the whole's in.

        Where no cluster differs from another, which says little when they are few, each counts as one row.
        """
        if self.sampled >= 1:
            return self.value, self.value
        variance, most = self.standard_error**2, self.per / (1 - self.sampled)
        spread = self.value * (1 - self.value)
        size = spread / variance if spread > 0 and 0 < variance < math.inf else self.clusters / (1 - self.sampled)
        size = min(size, most)
        centre = (self.value + Z_95**2 / (2 * size)) / (1 + Z_95**2 / size)
        half = Z_95 / (1 + Z_95**2 / size) * math.sqrt(spread / size + Z_95**2 / (4 * size**2))
        return max(0.0, centre - half), min(1.0, centre + half)


def sums(of: str, per: str) -> dict[str, pl.Expr]:
    """Of a frame with a row a cluster: what `ratio` needs of it. Sums of parts may be added."""
    x, y = pl.col(per).cast(pl.Float64), pl.col(of).cast(pl.Float64)
    return {
        "clusters": pl.len().cast(pl.Int64),
        "x": x.sum(),
        "y": y.sum(),
        "xx": (x * x).sum(),
        "xy": (x * y).sum(),
        "yy": (y * y).sum(),
    }


def ratio(sampled: float, *, clusters: int, x: float, y: float, xx: float, xy: float, yy: float) -> Ratio:
    """From `sums`, of a sample that holds this part of the whole (0 to 1); a sample of nothing is refused."""
    if x <= 0:
        raise ValueError(f"ratio got a sample whose sum is {x}, expected one above 0")
    value, of_others = y / x, max(0.0, 1 - sampled)
    if not of_others:
        return Ratio(value, 0.0, clusters, x, 1.0)
    if clusters < 2:
        return Ratio(value, math.inf, clusters, x, sampled)
    residuals = max(0.0, yy - 2 * value * xy + value**2 * xx)
    variance = of_others * clusters / (clusters - 1) * residuals / x**2
    return Ratio(value, math.sqrt(variance), clusters, x, sampled)
