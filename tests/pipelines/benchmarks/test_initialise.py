"""Selections side by side: each figure is what measuring that student alone gives, and all see the same batches."""

import json

import numpy as np
import polars as pl
import pytest

from pipelines.benchmarks.initialise import compare, dev_set, selections
from pipelines.evaluation.metrics import per_query
from pipelines.stage.errors import UserError
from pipelines.students.initialise import initialise_student
from tests.curated_versions import curated as curated_of
from tests.curated_versions import query_in
from tests.in_process import run_jobs
from tests.training_data import vector_of

COLUMNS = ["ndcg_before", "ndcg_after", "teacher_cosine_before", "teacher_cosine_after"]


def test_every_selection_is_measured_before_and_after_equal_steps(setting):
    curated, config, vectors = setting
    chosen = selections(config)

    compared = compare(curated, chosen, steps=3, vectors=vectors)

    assert compared.select("selection", "layers", "width").rows() == [
        ("uniform", "0 2", 32),
        ("uniform_with_last", "0 3", 32),
        ("first", "0 1", 32),
        ("last", "2 3", 32),
        ("uniform, narrower", "0 2", 16),
    ]
    assert compared["steps"].unique().to_list() == [3]
    assert compared["data_set"].unique().to_list() == [f"{curated}/dev"]
    assert compared.filter(width=16)["teacher_cosine_after"].to_list() == [None]
    assert compared.filter(width=32).select(COLUMNS).null_count().sum_horizontal().item() == 0
    last = compared.row(3, named=True)
    ndcg, cosine = measured_alone(initialise_student(chosen[3].config), curated)
    assert (last["ndcg_before"], last["teacher_cosine_before"]) == pytest.approx((ndcg, cosine), abs=1e-6)
    assert last["teacher_cosine_after"] != pytest.approx(cosine, abs=1e-6)
    alone = compare(curated, chosen[3:4], steps=3, vectors=vectors)
    assert alone.rows() == compared[3:4].rows()  # what was trained before it changes nothing


def measured_alone(student, curated):
    """nDCG@10 over the dev queries, and the mean cosine of all texts to the made-up teacher's vectors."""
    on = dev_set(curated, 300, 1_000)
    texts = [*on.queries.values(), *on.corpus.values()]
    vectors = student.encode(texts)
    queries, passages = vectors[: len(on.queries)], vectors[len(on.queries) :]
    order = np.argsort(-(queries @ passages.T), axis=1)
    ranking = {query: [list(on.corpus)[place] for place in row] for query, row in zip(on.queries, order, strict=True)}
    ndcg = per_query(on.qrels, ranking).filter(pl.col("metric") == "nDCG@10")["value"].mean()
    return ndcg, np.mean([vector @ vector_of(text, 32) for text, vector in zip(texts, vectors, strict=True)])


def test_a_list_of_layers_is_compared_and_a_rule_that_does_not_fit_is_refused_when_named(setting, capsys):
    _, config, _ = setting

    assert [one.layers for one in selections(config, [(1, 3)])] == [[1, 3], [0, 2]]
    with pytest.raises(UserError, match="from 0 to 3"):
        selections(config, [(1, 7)])
    with pytest.raises(UserError, match="in heads of 16"):
        selections(config, width=20)
    three = selections(config.model_copy(update={"num_layers": 3, "layers": "first"}))
    assert [one.name for one in three] == ["uniform_with_last", "first", "last", "first, narrower"]
    assert "uniform is left out: uniform cannot pick 3 of 4 layers" in capsys.readouterr().err


def test_a_student_that_the_vectors_do_not_serve_is_left_out_and_none_is_refused(setting, capsys):
    curated, config, vectors = setting
    config = config.model_copy(update={"vectors": 1.0})
    chosen = selections(config, ["first"])

    compared = compare(curated, chosen, steps=1, vectors=vectors)

    assert compared["selection"].to_list() == ["first"]
    assert "narrower is left out: the teacher's vectors are 32 wide, the student's 16" in capsys.readouterr().err
    with pytest.raises(UserError, match="there are no teacher vectors"):
        compare(curated, chosen, steps=1)


def test_a_version_without_dev_queries_is_refused(setting, tmp_path):
    _, config, _ = setting
    curated = curated_of(tmp_path, [(query_in("train"), "the red cat", 5.0, "a blue dog", -5.0)])

    with pytest.raises(UserError, match=r"no query in its dev split: give --beir DIR, or curate .*dev_share"):
        compare(curated, selections(config), steps=1)


def test_the_command_prints_one_line_per_selection(setting, capsys):
    curated, config, _ = setting
    sets = [
        f"--set=distill.{name}={json.dumps(value)}" for name, value in config.model_dump(exclude_defaults=True).items()
    ]
    words = ["bench", "initialise", "--tables", curated.tables.uri, "--from", str(curated), "--steps", "1", "--json"]

    assert run_jobs(*words, "--layers", "first", "--layers", "0,3", *sets) == 0

    rows = json.loads(capsys.readouterr().out)
    assert [row["layers"] for row in rows] == ["0 1", "0 3", "0 2"]
    assert run_jobs("bench", "initialize") == 2
    assert "there is no bench 'initialize'; expected one of score, distill, initialise" in capsys.readouterr().err
