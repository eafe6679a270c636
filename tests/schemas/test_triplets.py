"""The columns that triplets got later: null for rows that are older, and checked where there is a value."""

import polars as pl
import pytest

from pipelines.storage.writing import InvalidRows, validate
from schemas import TABLES, Triplets
from tests.scored_versions import scored_rows

ROW = scored_rows([("query", "positive", 1.0, "negative", 0.0)]).select(Triplets.polars_schema().keys())


@pytest.mark.parametrize(("miner", "rank"), [(None, None), ("given", None), ("bm25", 1), ("dense_2", 50)])
def test_a_miner_is_any_name_and_a_rank_counts_from_one(miner, rank):
    row = ROW.with_columns(miner=pl.lit(miner, pl.String), rank=pl.lit(rank, pl.Int32))

    assert validate(Triplets, row).select("miner", "rank").rows() == [(miner, rank)]


@pytest.mark.parametrize(("miner", "rank", "column"), [("BM25 ", 1, "miner"), ("", 1, "miner"), ("bm25", 0, "rank")])
def test_another_miner_or_rank_is_refused(miner, rank, column):
    with pytest.raises(InvalidRows, match=f"{column}: "):
        validate(Triplets, ROW.with_columns(miner=pl.lit(miner), rank=pl.lit(rank, pl.Int32)))


@pytest.mark.parametrize("name", ["triplets", "scored_triplets", "curated_triplets", "dropped_triplets"])
def test_every_table_of_triplets_has_the_columns_of_triplets_first(name):
    columns = list(Triplets.polars_schema())

    assert columns[-3:] == ["miner", "rank", "miner_score"]
    assert list(TABLES[name].polars_schema())[: len(columns)] == columns
