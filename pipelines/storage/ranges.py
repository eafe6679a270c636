"""Ranges of query ids that cover a table, about as large as asked for: how a stage reads a version in pieces.

    bucket_ranges(count_buckets(rows), max_rows=100_000) -> [QueryRange("000", "3fcg"), QueryRange("3fd", ...), ...]

Bounds fall between buckets (the first three hex digits of an id), so they depend on the rows alone.
"""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl


class QueryRange(NamedTuple):
    """Query ids from `lower` (inclusive) to `upper` (exclusive), in string order: `("", "g")` is all of them."""

    lower: str
    upper: str

    def contains(self, column: str) -> pl.Expr:
        """Whether an id column lies in the range."""
        return (pl.col(column) >= pl.lit(self.lower)) & (pl.col(column) < pl.lit(self.upper))


def count_buckets(rows: pl.LazyFrame, id_column: str = "query_id") -> dict[str, int]:
    """The rows in each bucket, ascending: the first three hex digits of an id, so independent of files and versions."""
    counts = rows.group_by(bucket=pl.col(id_column).str.head(3)).len().sort("bucket")
    return dict(counts.collect(engine="streaming").iter_rows())


def bucket_ranges(counts: Mapping[str, int], max_rows: int) -> list[QueryRange]:
    """Group neighbouring buckets into ranges of at most `max_rows`, of at least one bucket."""
    ranges: list[QueryRange] = []
    total = 0
    for bucket, rows in counts.items():
        total += rows
        if not ranges or total > max_rows:
            ranges.append(QueryRange(bucket, ""))
            total = rows
        ranges[-1] = ranges[-1]._replace(upper=f"{bucket}g")  # no hex digit is above "g"
    return ranges
