"""The summary of several systems against values worked out by hand, and its text."""

import polars as pl
import pytest

from pipelines.evaluation.comparison import render, summarise
from pipelines.evaluation.metrics import randomisation_p_value
from schemas import Evaluations

ROLES = {"bm25": "bm25", "small@1": "student", "big@2": "teacher", "untrained:small@1": "untrained"}
CHANCES = {"num_permutations": 500, "num_resamples": 200, "seed": 0}


def values(data_set="beir/pets@1", **by_system):
    """`evaluations` rows; each system has a list of nDCG@10 values, one per query, by "role dimension"."""
    ids = {role: model_id for model_id, role in ROLES.items()}
    rows = [
        (ids[name.split("_")[0]], data_set, f"q{query}", int(name.split("_")[1]), metric, value * factor, None)
        for name, ndcg in by_system.items()
        for query, value in enumerate(ndcg)
        for metric, factor in [("nDCG@10", 1), ("RR@10", 0.5), ("R@100", 0.25)]
    ]
    return pl.DataFrame(rows, Evaluations.polars_schema(), orient="row")


def line(summary, system, dimension):
    return summary.row(by_predicate=(pl.col("system") == system) & (pl.col("dimension") == dimension), named=True)


def test_means_and_differences_are_those_worked_out_by_hand():
    summary = summarise(
        values(
            student_4=[0.8, 0.6],
            student_2=[0.6, 0.4],
            untrained_4=[0.2, 0.2],
            untrained_2=[0.1, 0.3],
            bm25_0=[0.5, 0.4],
        ),
        ROLES,
        **CHANCES,
    )

    assert summary.select("system", "dimension").rows() == [
        ("student", 4), ("student", 2), ("untrained", 4), ("untrained", 2), ("bm25", 0)
    ]  # fmt: skip
    student = line(summary, "student", 4)
    assert student["model_id"] == "small@1"
    assert student["queries"] == 2
    assert (student["nDCG@10"], student["RR@10"], student["R@100"]) == pytest.approx((0.7, 0.35, 0.175))
    assert (student["minus_untrained"], student["minus_bm25"]) == pytest.approx((0.5, 0.25))
    assert student["low"] <= student["nDCG@10"] <= student["high"]
    assert line(summary, "student", 2)["minus_untrained"] == pytest.approx(0.3)  # with untrained at 2, not at 4
    assert student["minus_teacher"] is None
    assert student["p_teacher"] is None
    assert line(summary, "bm25", 0)["minus_bm25"] is None


def test_p_values_are_those_of_the_paired_test_on_queries_in_the_same_order():
    ours, theirs = [0.9, 0.8, 0.7, 0.9, 0.2, 0.6], [0.1, 0.5, 0.6, 0.3, 0.4, 0.2]
    shuffled = values(student_4=ours, bm25_0=theirs).sample(fraction=1, shuffle=True, seed=3)

    p_value = line(summarise(shuffled, ROLES, **CHANCES), "student", 4)["p_bm25"]

    expected = randomisation_p_value(
        pl.Series(ours).to_numpy(), pl.Series(theirs).to_numpy(), num_permutations=500, seed=0
    )
    assert p_value == expected


@pytest.mark.parametrize(("student", "teacher"), [(8, "teacher_4"), (8, "teacher_0")])
def test_a_teacher_without_the_students_dimension_is_compared_at_its_largest(student, teacher):
    by_system = {f"student_{student}": [0.5, 0.5], teacher: [0.3, 0.1]}

    assert line(summarise(values(**by_system), ROLES, **CHANCES), "student", 8)["minus_teacher"] == pytest.approx(0.3)


def test_text_has_a_block_per_data_set_and_says_what_is_missing():
    both = pl.concat(
        [values(student_4=[0.8, 0.6], bm25_0=[0.5, 0.4]), values("other/test", student_4=[1.0], bm25_0=[0.0])]
    )
    overlap = pl.DataFrame({"data_set": ["beir/pets@1"], "kind": ["query"], "texts": [2], "exact": [0], "near": [1]})

    text = render(summarise(both, ROLES, **CHANCES), overlap, {"teacher": "its folder is gone"})

    assert "beir/pets@1: 2 queries" in text
    assert "0 of 2 queries stand in the training text exactly, 1 but for case, punctuation and space" in text
    assert "other/test: 1 query" in text
    assert "teacher: not measured: its folder is gone" in text
    student = next(line for line in text.splitlines() if line.split()[:1] == ["student"])
    assert student.split()[:3] == ["student", "4", "0.700"]
    assert "+0.250 p=" in student
    assert max(map(len, text.splitlines())) <= 200


def test_only_systems_that_were_measured_have_a_column():
    text = render(
        summarise(values(student_4=[0.8], bm25_0=[0.5]), ROLES, **CHANCES),
        pl.DataFrame(schema={"data_set": pl.String}),
        {},
    )

    heading = next(row for row in text.splitlines() if "nDCG@10 [" in row)
    assert "vs BM25" in heading
    assert "vs untrained" not in heading
    assert "vs teacher" not in heading
