"""What a model is worth: means and prices by hand, the queries it loses with their passages, and why there are none."""

import polars as pl
import pytest

from pipelines.report.quality import METRIC, by_query, model_size, quality
from pipelines.report.subject import Subject
from tests.reported import JUDGE, MODEL, evaluate, reported, write_model


@pytest.fixture(scope="module")
def measured(root):
    (one,) = quality(root.tables, [MODEL], JUDGE)
    return one


def value(at: int, gain: float) -> float:
    """The value of the at-th query, as tests.reported writes it."""
    return round(0.3 + gain + 0.5 * (at % 3) / 3, 3)


def test_means_are_those_of_the_table_and_the_price_is_the_difference_of_two(measured):
    queries = measured.best["queries"]
    full = [0.05, *(value(at, 0.1) for at in range(1, queries))]
    small = [0.05, *(value(at, 0.0) for at in range(1, queries))]

    assert (measured.model_id, measured.data_set) == (MODEL, "curated_triplets@1/test")
    assert measured.best[METRIC] == pytest.approx(sum(full) / queries)
    assert measured.best["minus_teacher"] == pytest.approx(
        sum(full) / queries - sum(value(at, 0.05) for at in range(queries)) / queries
    )
    assert (measured.price.dimension, measured.price.full) == (2, 4)
    assert measured.price.difference == pytest.approx((sum(small) - sum(full)) / queries)
    assert measured.price.low <= measured.price.difference <= measured.price.high < 0
    assert measured.summary["system"].to_list() == ["student", "student", "teacher", "bm25"]


def test_the_queries_that_are_lost_come_with_their_texts_and_the_teachers_scores(root, measured):
    told = by_query(Subject.find(root.tables, root.curated), measured)

    assert (told.wins, told.ties, told.losses) == (measured.best["queries"] - 1, 0, 1)
    worst = told.worst.row(0, named=True)
    assert worst["difference"] == pytest.approx(0.05 - value(0, 0.05))
    passages = told.passages[worst["query_id"]]
    assert {passage["role"] for passage in passages} == {"positive", "negative"}
    assert passages[0]["teacher_score"] >= passages[1]["teacher_score"]
    assert worst["query"] == passages[0]["query"]
    scored = root.tables.latest("scored_triplets").scan().filter(query_id=worst["query_id"], teacher=JUDGE).collect()
    assert {passage["text"] for passage in passages} == {scored["positive"][0], scored["negative"][0]}


def test_a_set_whose_texts_no_table_holds_and_a_teacher_that_was_not_measured_are_told(root, measured):
    subject = Subject.find(root.tables, root.curated)
    outside = measured._replace(data_set="beir/pets@0123")
    alone = measured._replace(values=measured.values.filter(pl.col("model_id") != JUDGE))

    assert "the tables hold no texts of beir/pets@0123" in by_query(subject, outside).why_no_texts
    assert by_query(subject, alone) == f"no values of its teacher ({JUDGE}) are recorded for curated_triplets@1/test"


def test_models_stand_in_the_order_asked_for_else_the_newest_first(tmp_path):
    root = reported(tmp_path)
    newer = f"newer@{'0' * 12}"
    write_model(root.tables, root.curated, newer)
    evaluate(root.tables, root.curated, newer)

    found = Subject.find(root.tables, root.curated)
    assert [row["model_id"] for row in found.models] == [newer, MODEL]
    assert [one.model_id for one in quality(root.tables, [newer, MODEL], JUDGE)] == [newer, MODEL]
    asked = Subject.find(root.tables, root.curated, models=["small", newer, MODEL])
    assert [row["name"] for row in asked.models][:2] == ["small", "newer"]


def test_of_a_model_whose_folder_has_no_weights_the_size_is_not_known(root):
    row = Subject.find(root.tables, root.curated).models[0]

    assert model_size(root.tables, row) == (None, None, None)
