"""Splits: equal questions share one, the shares hold, and a split never depends on other rows."""

import hashlib

import polars as pl
import pytest

from pipelines.texts.splits import split_of
from tests.rows import split_of_text

QUERIES = pl.DataFrame({"query": [f"what is number {n}?" for n in range(4_000)]})


def splits(queries: pl.DataFrame, dev_share: float, test_share: float) -> pl.Series:
    return queries.select(split=split_of(pl.col("query"), dev_share, test_share))["split"]


def test_the_split_follows_the_normalised_query_only():
    spellings = ["How do I sort a list?", "how do i  SORT a list", "How, do I sort: a list!"]

    assert len({split_of_text(text, 0.3, 0.3) for text in spellings}) == 1


def test_the_split_is_the_leading_bits_of_the_sha256():
    query = "how do i sort a list"
    position = int(hashlib.sha256(query.encode()).hexdigest(), 16) / 2**256

    assert split_of_text(query, 0.0, position + 1e-9) == "test"
    assert split_of_text(query, 0.0, position - 1e-9) == "train"
    assert split_of_text(query, 1.0 - position + 1e-9, 0.0) == "dev"


def test_the_shares_hold():
    counts = dict(splits(QUERIES, 0.1, 0.2).value_counts().iter_rows())

    assert counts["dev"] == pytest.approx(400, abs=60)  # three standard deviations of a binomial
    assert counts["test"] == pytest.approx(800, abs=76)


def test_a_larger_share_only_adds_queries_to_its_split():
    small, more_test, more_dev = (splits(QUERIES, *shares) for shares in [(0.1, 0.1), (0.1, 0.2), (0.2, 0.1)])

    assert ((small == "test") <= (more_test == "test")).all()
    assert ((small == "dev") == (more_test == "dev")).all()
    assert ((small == "test") == (more_dev == "test")).all()


def test_order_and_other_rows_do_not_matter():
    one_by_one = [split_of_text(query, 0.3, 0.3) for query in QUERIES["query"].head(50)]

    assert splits(QUERIES.reverse(), 0.3, 0.3).reverse().head(50).to_list() == one_by_one


def test_no_rows_have_no_split():
    assert splits(QUERIES.head(0), 0.1, 0.1).to_list() == []
