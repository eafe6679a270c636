"""Roots that older commits made go through every command of today: see tests/frozen/README.md."""

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from pipelines.storage import Tables
from pipelines.storage.lineage import engine
from schemas import TABLES
from tests.in_process import run_jobs

ROOT = Path(__file__).parents[1]
FROZEN = ROOT / "tests" / "frozen"
NEW_COLUMNS = {
    "miner",
    "rank",
    "miner_score",
    "text",
}  # what triplets, the tables made from it and teacher_vectors have got since
NEW_COLUMNS |= {"dev_ndcg_at_10", "dev_set", "named_source"}  # and models, and quarantined_rows
NEW_TABLES = {"generated_queries", "passage_judgements"}
TOLERANCE = 1e-4
"""On another kind of machine: norm of the difference over norm of the weights. Biases of attention keys are left out:
their gradient is rounding alone, which Adam magnifies (see tests/pipelines/students/training/test_ranks.py)."""


@pytest.fixture(scope="module", params=sorted(path.name for path in FROZEN.iterdir() if path.is_dir()))
def frozen(request):
    return FROZEN / request.param


@pytest.fixture(scope="module")
def root(frozen, tmp_path_factory):
    """A copy that the tests of this module write into, in their order."""
    return shutil.copytree(frozen / "tables", tmp_path_factory.mktemp("frozen") / "tables")


@pytest.fixture
def run(frozen, root, monkeypatch, capsys):
    """Run a command in the repository's root, with the frozen root's recipe; gives its code, stdout and stderr."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TABLES", str(root))

    def call(*arguments, recipe=False):
        own_recipe = ["--recipe", str(frozen / "recipe.toml")] if recipe else []
        return run_jobs(*arguments, *own_recipe), *capsys.readouterr()

    return call


def test_every_version_of_every_table_reads_with_todays_columns(root):
    tables = Tables.at(str(root))
    assert tables.names() == [name for name in TABLES if name not in NEW_TABLES]
    for name in tables.names():
        table = TABLES[name]
        for version in tables.latest(name).history():
            rows = version.scan().collect()
            assert list(rows.schema.items()) == list(table.polars_schema().items())
            table.validate(rows, lazy=True)
            assert all(rows[column].is_null().all() for column in NEW_COLUMNS & set(rows.columns))


def test_history_leads_from_the_evaluation_to_the_files_and_back(run):
    code, out, _ = run("history", "evaluations@0")
    assert code == 0
    assert re.search(r"\n +triplets@0 +ingest; from tests/frozen/2bb8cc9/triplets.jsonl; .*note: the first rows", out)
    assert "evaluations@0" in run("history", "triplets@0", "--downstream")[1]
    told = [json.loads(line) for line in run("history", "--json")[1].splitlines()]
    assert {entry["stage"] for entry in told} == {"ingest", "mine", "score", "curate", "distill", "evaluate"}


def test_query_asks_old_columns_and_new_ones(run):
    sql = "SELECT source, COUNT(*) AS n, COUNT(miner) AS mined FROM scored_triplets GROUP BY source ORDER BY source"

    assert json.loads(run("query", sql, "--json")[1]) == [
        {"source": "books", "n": 200, "mined": 0},
        {"source": "pairs", "n": 80, "mined": 0},
    ]
    assert run("models")[0] == 0


def test_each_of_its_curations_has_its_own_dropped_rows(run, root, tmp_path):
    moved = json.loads(run("diff", "curated_triplets@0", "curated_triplets@1", "--all", "--json")[1])
    assert sum(row["rows"] for row in moved) == 140

    assert run("publish", "--model", "small", "--to", tmp_path / "published")[0] == 0
    manifest = json.loads((tmp_path / "published" / "manifest.json").read_text())
    dropped = [row["rows"] for row in manifest["curation"] if row["outcome"] == "dropped"]
    assert sum(dropped) == Tables.at(str(root)).parse("dropped_triplets@0").num_rows()


def test_a_report_shows_its_model_and_its_two_teachers(run, tmp_path):
    page = tmp_path / "report.html"

    assert run("report", "--against", "curated_triplets@0", "--to", page)[0] == 0
    told = page.read_text(encoding="utf-8")
    for figure in ("ndcg_at_10", "agreement_correlation", "moved_rows", "queries_lost", "tokens_cut"):
        assert f'data-figure="{figure}"' in told


def test_the_finished_model_is_found_under_its_name(run, ray_cluster):
    code, out, err = run("distill", "--from", "curated_triplets@0", "--name", "small", recipe=True)

    assert (code, out) == (0, "models@0\n")
    assert "small is already trained from this data and config" in err


def test_the_model_is_made_again(run, frozen, root, ray_cluster, tmp_path, capsys):
    made_by = json.loads((frozen / "machine.json").read_text())
    here = {"processor": engine().processor, "kernels": torch.backends.cpu.get_cpu_capability()}
    here["torch"] = engine().libraries["torch"].partition("+")[0]

    code, out, err = run("reproduce", "--model", "small", "--output", tmp_path / "again")

    old, new = (folder / "model.safetensors" for folder in (root / "models/small/model", tmp_path / "again/model"))
    is_same, apart = old.read_bytes() == new.read_bytes(), distance(old, new)
    with capsys.disabled():
        kind = "the kind that made it" if here == made_by else f"another kind, {here}; it was made by {made_by}"
        print(f"\nfrozen root {frozen.name}, machine of {kind}: {out.strip()}; {apart:.1e} apart")
    assert "both are as they were" in err
    assert (code, out.split()[0]) == ((0, "identical:") if is_same else (4, "differs:"))
    assert is_same or here != made_by
    assert apart < TOLERANCE


def distance(ours: Path, theirs: Path) -> float:
    """Norm of the difference of all weights, over their norm."""
    models = [load_file(path) for path in (ours, theirs)]
    names = [name for name in models[0] if not name.endswith("key.bias")]
    left, right = (torch.cat([weights[name].double().flatten() for name in names]) for weights in models)
    return float((left - right).norm() / left.norm())


@pytest.mark.slow
def test_rows_are_added_scored_curated_and_trained_on(run, frozen, root, ray_cluster, tmp_path):
    rows = [{"query": f"a question {n}", "positive": f"its answer {n}", "negative": f"a bird {n}"} for n in range(6)]
    pairs = [{"query": f"a yellow pair {n}", "positive": f"the yellow half {n}"} for n in range(6)]
    for name, lines in (("rows", rows), ("pairs", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    code, out, err = run("ingest", "--input", frozen / "triplets.jsonl", "--source", "books", recipe=True)
    assert (code, out) == (0, "triplets@2\n"), "known by its content"
    assert "the same content was ingested before" in err
    assert run("mine", "--input", "tests/frozen/2bb8cc9/pairs.jsonl", recipe=True)[:2] == (0, "triplets@2\n")
    assert run("ingest", "--input", tmp_path / "rows.jsonl", recipe=True)[0] == 0
    assert run("mine", "--input", tmp_path / "pairs.jsonl", recipe=True)[0] == 0
    assert run("score", "--vectors", recipe=True)[0] == 0
    code, curated, _ = run("curate", recipe=True)
    assert (code, curated) == (0, "curated_triplets@2\n")
    assert run("distill", "--name", "newer", "--set", "distill.max_steps=2", recipe=True)[0] == 0
    assert run("evaluate", "--model", "newer", recipe=True)[0] == 0

    tables = Tables.at(str(root))
    scored = tables.latest("scored_triplets").scan().filter(pl.col("teacher").str.starts_with("encoder"))
    triplets = tables.latest("triplets").scan().collect()
    assert sorted(scored.collect()["triplet_id"]) == sorted(triplets["triplet_id"])
    miners = dict(triplets.group_by("miner").len().iter_rows())
    assert (miners[None], miners["given"], miners["bm25"] + miners["random"]) == (150, 6, 12)
