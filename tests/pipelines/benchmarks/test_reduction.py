"""The field's layer reduction and ours train on the same texts, for as long, and are measured on the same sets."""

import pytest

from pipelines.benchmarks import reduction
from pipelines.benchmarks.reduction import compare
from pipelines.stage.errors import UserError
from tests.training_data import vector_of

TEXTS = {"data": "texts", "margin_mse": 0.0, "vectors": 1.0, "texts_per_step": 8, "head": "dense"}
TEXTS |= {"vectors_axes": "principal"}


def test_rows_are_of_each_attempt_on_dev_and_of_the_best_and_ours_on_every_set(setting):
    curated, config, vectors = setting
    minutes = {"minutes": 0.01, "search_minutes": 0.005}
    given = {"picks": ["uniform", "first"], "learning_rates": [1e-3], "beir": ()}
    few = {"dev_passages": 10}  # so that all are ranked

    rows = list(compare(curated, vectors, config.model_copy(update=TEXTS), **given, **minutes, **few))

    assert [(row["who"], row["layers"]) for row in rows[:2]] == [
        ("field, searched", "uniform"),
        ("field, searched", "first"),
    ]
    best = max(rows[:2], key=lambda row: row["ndcg_at_10"])
    assert [(row["who"], row["layers"]) for row in rows[2:]] == [("field", best["layers"]), ("ours", "uniform")]
    assert len({row["data_set"] for row in rows}) == 1
    assert all(0 < row["ndcg_at_10"] <= 1 and row["seconds"] >= 0 for row in rows)


def test_both_read_the_texts_that_are_not_kept_out(setting):
    curated, config, vectors = setting
    texts = reduction._texts(curated, vectors, config.model_copy(update=TEXTS))
    training = curated.scan().collect().filter(split="train")

    assert sorted(texts.texts) == sorted({*training["query"], *training["positive"], *training["negative"]})
    for text, vector in zip(texts.texts, texts.vectors, strict=True):
        assert vector == pytest.approx(vector_of(text, 32), rel=1e-5)


def test_a_training_on_triplets_is_refused(setting):
    curated, config, vectors = setting
    with pytest.raises(UserError, match=r"distill.data is 'triplets'; set it to texts"):
        next(compare(curated, vectors, config, minutes=1, search_minutes=1, beir=()))
