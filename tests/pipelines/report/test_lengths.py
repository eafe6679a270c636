"""How long the texts are and what is cut: every text in one bin, tokens from the scores, a share of a large table."""

import polars as pl
import pytest

from pipelines.report.lengths import length_figures
from pipelines.report.scores import score_figures

ROWS = 40


def test_bins_hold_every_text_and_the_source_of_which_most_is_cut_comes_first(subject):
    told = length_figures(subject, score_figures(subject, []).sources)

    assert (told.share, told.triplets) == (1.0, 3 * ROWS)
    assert told.bins.group_by("text").agg(pl.col("share").sum())["share"].to_list() == pytest.approx([1, 1, 1])
    assert told.medians == {"query": 14, "positive": 13, "negative": 12}  # `mixed query 12`, `mixed good 12`, ...
    # `mixed bad 1`, `clean bad 1`: 11 characters
    assert told.bins.filter(low=8).select("text", "share").rows() == [("negative", pytest.approx(20 / 120))]
    first = told.cut.row(0, named=True)
    assert (first["source"], first["rows_cut"], first["tokens_cut"]) == ("mixed", ROWS, 3 * ROWS)


def test_of_a_large_table_a_share_of_the_queries_is_measured(subject, monkeypatch):
    monkeypatch.setattr("pipelines.report.lengths.SAMPLED_ROWS", 3 * ROWS)  # of two teachers' rows: half
    told = length_figures(subject, score_figures(subject, []).sources)

    assert told.share == 0.5
    assert 0.3 * 3 * ROWS < told.triplets < 0.7 * 3 * ROWS
    assert told.cut["rows"].sum() == 3 * ROWS
