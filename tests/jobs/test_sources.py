"""`sources`: a table, a recipe's weights, or a study; one of them."""

import json

import pytest

from jobs.recipe import load_recipe
from jobs.studies import load_study
from tests.curated_versions import curated


@pytest.fixture
def version(tmp_path):
    return curated(tmp_path, [("what is it", "a", 5.0, "b", -5.0), ("who", "c", -5.0, "d", -4.0)])


def test_it_prints_a_row_a_source(run, version):
    code, out, err = run("sources", "--json")

    assert code == 0, err
    (row,) = json.loads(out)
    assert (row["source"], row["rows"], row["kept"], row["disagreement"]) == ("docs", 2, 0.5, 0.5)
    header, line, legend = run("sources", "--from", version)[1].splitlines()
    assert header.split()[:5] == ["source", "queries", "rows", "kept", "corrected"]
    assert line.split()[:7] == ["docs", "2", "2", "50.0%", "0.0%", "50.0%", "50.0%"]
    assert legend == "characters: means of query / positive / negative."


def test_quarantined_rows_of_no_source_of_the_curation_are_told(run, version, tmp_path):
    (tmp_path / "mixed.csv").write_text("query,positive,negative\nq,p,n\n,p,n\n")
    assert run("ingest", "--input", tmp_path / "mixed.csv", "--set", "ingest.max_bad_share=1")[0] == 0
    code, out, err = run("sources", "--json")

    assert (code, json.loads(out)[0]["quarantined"]) == (0, 0)
    assert "sources: in quarantined_rows: 1 more row of what is no source here: mixed (1)" in err


def test_its_weights_are_read_by_a_recipe(run, version, tmp_path):
    (tmp_path / "mine.toml").write_text(run("sources", "--weights")[1])

    assert load_recipe(str(tmp_path / "mine.toml"), None).distill.source_weights == {"docs": 1.0}


def test_its_study_is_one(run, version, tmp_path):
    (tmp_path / "left_out.toml").write_text(run("sources", "--leave-out", 3, "--recipe", "minilm_study")[1])
    study = load_study(str(tmp_path / "left_out.toml"), None).study

    assert [arm.name for arm in study.arms] == ["all", "without_1"]
    assert study.max_steps == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--weights", "--json"], "each print something else; expected one of them"),
        (["--leave-out", "0"], "--leave-out is 0 steps, expected 1 or more"),
        (["--leave-out", "3", "--recipe", "none_such"], "none_such"),
        (["--from", "curated_triplets@7"], "curated_triplets@7"),
    ],
)
def test_what_cannot_be_is_refused(run, version, words, told):
    code, out, err = run("sources", *words)

    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]
