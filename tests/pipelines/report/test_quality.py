"""What a model is worth: means and prices by hand, and the models in their order."""

import pytest

from pipelines.report.quality import METRIC, model_size, quality
from pipelines.report.subject import Subject
from tests.reported import JUDGE, MODEL, evaluate, reported, value, write_model


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


def test_models_stand_in_the_order_asked_for_else_the_newest_first(tmp_path):
    root = reported(tmp_path)
    newer = f"newer@{'0' * 12}"
    write_model(root.tables, root.curated, newer)
    evaluate(root.tables, root.curated, newer)

    found = Subject.find(root.tables, root.curated)
    assert [row["model_id"] for row in found.models] == [newer, MODEL]
    assert [one.model_id for one in quality(root.tables, [newer, MODEL], JUDGE)] == [newer, MODEL]
    asked = Subject.find(root.tables, root.curated, models=["small", newer, MODEL])
    assert [row["model_id"] for row in asked.models] == [MODEL, newer], "one that was named twice is there once"


def test_of_a_model_whose_folder_has_no_weights_the_size_is_not_known(root):
    row = Subject.find(root.tables, root.curated).models[0]

    assert model_size(root.tables, row) == (None, None, None)
