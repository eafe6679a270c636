"""A study's figures and answers against values worked out by hand, and their Markdown."""

import numpy as np
import polars as pl
import pytest

from pipelines.evaluation.study_tables import IN_DOMAIN, Question, compare, figures, render, with_sizes

CHANCES = {"num_resamples": 200}
VALUES = {  # arm, set -> the mean of each seed; of every query it is that, a hundredth more or less
    ("new", IN_DOMAIN): [0.70, 0.72],
    ("new", "pets"): [0.50, 0.50],
    ("new", "cars"): [0.30, 0.34],
    ("old", IN_DOMAIN): [0.60, 0.62],
    ("old", "pets"): [0.50, 0.50],
    ("old", "cars"): [0.30, 0.34],
    ("bm25", IN_DOMAIN): [0.40],
    ("bm25", "pets"): [0.60],
    ("bm25", "cars"): [0.20],
}


def values(dimension: int = 8, kept_as: str = "float32") -> pl.DataFrame:
    rows = [
        ("steps", arm, seed, kept_as, 0 if arm == "bm25" else dimension, data_set, f"q{query}", mean + offset)
        for (arm, data_set), means in VALUES.items()
        for seed, mean in enumerate(means)
        for query, offset in enumerate([-0.01, 0.01])
    ]
    names = ["budget", "arm", "seed", "kept_as", "dimension", "data_set", "query_id", "value"]
    return pl.DataFrame(rows, names, orient="row")


def test_the_public_mean_is_over_sets_and_the_full_size_is_the_largest_of_each_arm():
    sized = with_sizes(pl.concat([values(8), values(4).filter(pl.col("arm") != "bm25"), values(2)]).unique(), [4])
    found = figures(sized, **CHANCES)

    assert set(found.select("size", "arm").iter_rows()) == {
        ("full", "new"), ("full", "old"), ("full", "bm25"), ("4", "new"), ("4", "old")
    }  # fmt: skip
    means = {row["on"]: row["mean"] for row in found.filter(size="full", arm="new").to_dicts()}
    assert means == pytest.approx({IN_DOMAIN: 0.71, "pets": 0.5, "cars": 0.32, "public": 0.41})
    of_new = found.filter(size="full", arm="new", on="public").row(0, named=True)
    assert of_new["spread"] == pytest.approx(0.02 / np.sqrt(2))
    assert (of_new["seeds"], found.filter(arm="bm25")["seeds"].unique().to_list()) == (2, [1])


def test_answers_are_paired_and_only_given_where_both_arms_were_measured():
    asked = [Question("new", "old", "is it better?"), Question("new", "gone", "than what?")]
    answers = compare(with_sizes(values(), []), asked, **CHANCES)

    assert answers.select("on", "verdict").rows() == [(IN_DOMAIN, "better"), ("public", "not told apart")]
    assert answers["mean"].to_list() == pytest.approx([0.1, 0.0])
    assert answers["low"][0] == pytest.approx(0.1)  # each seed and query differs by the same
    against_bm25 = compare(with_sizes(values(), []), [Question("old", "bm25", "and than words?")], **CHANCES)
    assert against_bm25["mean"].to_list() == pytest.approx([0.21, 0.41 - 0.4])


def test_markdown_has_costs_figures_and_answers_of_each_budget():
    sized = with_sizes(pl.concat([values(), values(kept_as="int8").filter(pl.col("arm") != "bm25")]), [])
    costs = pl.DataFrame([{"budget": "steps", "arm": "new", "seeds": 2, "steps": 1200.0, "seconds": 61.25,
                           "triplets_per_s": 80.04}])  # fmt: skip
    answers = compare(sized, [Question("new", "old", "is it better?")], **CHANCES)

    text = render("small", {"steps": "Equal steps: 1200"}, costs, figures(sized, **CHANCES), answers)

    assert text.startswith("# Study small\n\n## Equal steps: 1200\n\n| arm | seeds | steps | seconds | triplets/s |\n")
    assert "| new | 2 | 1,200 | 61.2 | 80.0 |" in text
    assert "### full size\n\n| arm | in domain | cars | pets | mean of the public sets |" in text
    assert "### full size, int8" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| bm25 ")]
    assert line.startswith("| bm25 | 0.400 [0.335, 0.465] | 0.200 [")
    assert "| new | 0.710 ± 0.014 [" in text
    assert "| is it better? | new - old | full size | +0.100 [+0.100, +0.100] better | +0.000 [" in text
    assert text.count("is it better?") == 2  # float32 and int8
