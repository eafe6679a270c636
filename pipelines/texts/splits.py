"""Which split a query belongs to: a function of the normalised query's sha256, of nothing else.

Rows never decide their own split: all triplets of one question, however it is typed, stand in one split, today
and after the next million rows. Polars' own `hash` may change between releases, so hashlib does the work.
"""

import hashlib

import polars as pl

from pipelines.texts.comparison import normalise

_HASH_DIGITS = 13  # hex digits: 52 bits, as many as a float holds exactly


def split_of(query: pl.Expr, dev_share: float, test_share: float) -> pl.Expr:
    """Names the split: "train", "dev" or "test".

    Test takes the low end of the hash and dev the high end: a changed share never moves a query into or out of the
    other split.
    """

    def split(normalised: str) -> str:
        position = int(hashlib.sha256(normalised.encode()).hexdigest()[:_HASH_DIGITS], 16) / 16**_HASH_DIGITS
        if position < test_share:
            return "test"
        return "dev" if position >= 1.0 - dev_share else "train"

    def splits(queries: pl.Series) -> pl.Series:
        distinct = queries.drop_nulls().unique()  # each query is normalised and hashed once
        names = [split(normalised) for normalised in pl.select(normalise(pl.lit(distinct))).to_series()]
        return queries.replace_strict(distinct, pl.Series(names, dtype=pl.String), return_dtype=pl.String)

    return query.map_batches(splits, return_dtype=pl.String, is_elementwise=True)


def in_share(share: float) -> pl.Expr:
    """Whether a row's query is in a share of all, by its id: the same ones each time, and 1 % is part of 5 %."""
    position = pl.col("query_id").str.slice(3, 8).str.to_integer(base=16) / 16**8
    return position < share if share < 1 else pl.lit(True)
