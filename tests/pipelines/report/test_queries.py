"""The queries that a student loses, with what it ranked instead; and why there is none of it."""

import polars as pl
import pytest

from pipelines.report.queries import BEST_QUERIES, by_query
from pipelines.report.subject import Subject
from tests.reported import JUDGE, value


def test_the_queries_that_are_lost_come_with_their_texts_and_the_teachers_scores(root, measured):
    told = by_query(Subject.find(root.tables, root.curated), measured)

    assert (told.wins, told.ties, told.losses) == (measured.best["queries"] - 1, 0, 1)
    worst = told.worst.row(0, named=True)
    assert worst["difference"] == pytest.approx(0.05 - value(0, 0.05))
    scored = root.tables.latest("scored_triplets").scan().filter(query_id=worst["query_id"], teacher=JUDGE).collect()
    own = scored.row(0, named=True)
    shown = [
        (passage["role"], passage["text"], passage["student_rank"], passage["teacher_rank"], passage["teacher_score"])
        for passage in told.passages[worst["query_id"]]
    ]
    assert [one[0] for one in shown] == ["of another query", "positive", "negative"]
    assert shown[1:] == [
        ("positive", own["positive"], 2, 1, own["positive_score"]),
        ("negative", own["negative"], None, None, own["negative_score"]),
    ]
    assert (shown[0][2:], worst["query"], told.has_ranks) == ((1, None, None), own["query"], True)
    assert shown[0][1] not in (own["positive"], own["negative"])


def test_the_queries_that_are_won_most_come_with_their_texts_too(root, measured):
    told = by_query(Subject.find(root.tables, root.curated), measured)

    assert len(told.best) == min(BEST_QUERIES, told.wins) > 0
    assert told.best["difference"].to_list() == pytest.approx([0.05] * len(told.best))  # 0.1 and 0.05 are gained
    assert all(row["query"] and row["query_id"] in told.passages for row in told.best.to_dicts())
    assert set(told.passages) == {*told.worst["query_id"], *told.best["query_id"]}


def test_an_evaluation_that_recorded_no_ranks_shows_the_querys_own_passages_the_best_scored_first(root, measured):
    none, subject = pl.lit(None, pl.List(pl.String)), Subject.find(root.tables, root.curated)
    told = by_query(subject, measured._replace(values=measured.values.with_columns(ranked_ids=none)))
    passages = told.passages[told.worst["query_id"].item()]
    of_teacher = pl.when(pl.col("model_id") == JUDGE).then(none).otherwise("ranked_ids")
    half = by_query(subject, measured._replace(values=measured.values.with_columns(ranked_ids=of_teacher)))

    assert not told.has_ranks
    assert not half.has_ranks, "of its teacher they are not known"
    assert {(one["role"], one["student_rank"]) for one in passages} == {("positive", None), ("negative", None)}
    assert passages[0]["teacher_score"] >= passages[1]["teacher_score"]


def test_a_set_whose_texts_no_table_holds_and_a_teacher_that_was_not_measured_are_told(root, measured):
    subject = Subject.find(root.tables, root.curated)
    outside = measured._replace(data_set="beir/pets@0123")
    alone = measured._replace(values=measured.values.filter(pl.col("model_id") != JUDGE))

    assert "the tables hold no texts of beir/pets@0123" in by_query(subject, outside).why_no_texts
    assert by_query(subject, alone) == f"no values of its teacher ({JUDGE}) are recorded for curated_triplets@1/test"
