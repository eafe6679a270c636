"""The whole flow on tiny models, from a file of text to a model made again; each step is in the next lineage."""

import json
import random
from pathlib import Path

import polars as pl
import pytest
from sentence_transformers import SentenceTransformer

from jobs.__main__ import main
from jobs.recipe import load_recipe
from jobs.run import run_all, train_all
from pipelines import ingest, publish
from pipelines.checkpoints.run_folder import RUN, RunFolder
from pipelines.inspection.graph import downstream_of, upstream_of
from pipelines.scoring.variation import copies_of
from pipelines.storage import Invocation, Tables
from tests.tiny import WORDS, tiny_bi_encoder

NUM_QUERIES = 120
HOSTILE = "a b'é#?*[1]{100%}"
"""Holds the input, the teacher and the tables: what a path is here it must be in Ray's workers."""


SETTINGS = {
    "score.teacher_kind": "bi_encoder",
    "score.max_tokens": 64,
    "score.max_actors": 1,
    "curate.max_drop_share": 0.95,
    "curate.test_share": 0.2,
    "distill.num_layers": 2,
    "distill.dimensions": [32, 16],
    "distill.max_tokens": 64,
    "distill.triplets_per_step": 16,
    "distill.epochs": 10,
    "distill.max_steps": 30,
    "distill.learning_rate": 1e-3,
    "distill.info_nce": 1.0,
    "distill.vectors": 0.5,
}


def write_corpus(path: Path) -> None:
    """Queries that share three of their four words with their positive and none with their negative on purpose."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(NUM_QUERIES):
            words = random.Random(number).sample(WORDS, 12)
            row = {"query": words[:4], "positive": words[1:7], "negative": words[7:]}
            file.write(json.dumps({name: " ".join(text) for name, text in row.items()}) + "\n")


def settings_for(teacher: str) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in SETTINGS.items()] + [
        f"{key}={json.dumps(teacher)}" for key in ("score.teacher", "distill.source_model")
    ]


@pytest.fixture(scope="module")
def flow(ray_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow") / HOSTILE
    folder.mkdir()
    write_corpus(folder / "corpus.jsonl")
    teacher = tiny_bi_encoder(folder / "teacher", num_layers=4)
    recipe = load_recipe("modernbert_small_v2", settings_for(teacher))
    tables = Tables.at(str(folder / "tables"), Invocation(recipe.model_dump(mode="json")))
    triplets = ingest.run(tables, [str(folder / "corpus.jsonl")], recipe.ingest, columns={}, source="toy")
    return tables, run_all(triplets, "small", recipe, [])


def test_the_loss_falls_and_every_system_is_measured(flow):
    tables, evaluation = flow

    steps = [
        json.loads(line) for line in Path(tables.path("models", "small", "metrics.jsonl")).read_text().splitlines()
    ]
    assert len(steps) == 30
    assert sum(step["loss"] for step in steps[-5:]) < sum(step["loss"] for step in steps[:5])
    assert set(evaluation.summary["system"]) == {"student", "untrained", "teacher", "bm25"}


def test_lineage_closes_from_the_evaluation_to_the_file_and_back(flow):
    tables, evaluation = flow

    made_from = {str(version): version.commit.stage for _, version in upstream_of(evaluation.version)}
    assert {"models@0": "distill", "curated_triplets@0": "curate", "triplets@0": "ingest"}.items() <= made_from.items()
    (file,) = tables.parse("triplets@0").commit.result.ingested_files
    assert Path(file.path).name == "corpus.jsonl"
    assert file.triplets == NUM_QUERIES
    made = {str(version) for _, version in downstream_of(tables.parse("triplets@0"))}
    assert {"curated_triplets@0", "models@0", "evaluations@0"} <= made


def test_the_published_folder_retrieves_whole_and_cut(flow, tmp_path):
    tables, _ = flow

    folder = publish.run(tables, "small", str(tmp_path / "published"))

    for dimension in (32, 16):
        model = SentenceTransformer(folder, truncate_dim=dimension, device="cpu")
        vectors = model.encode_document(["red river fish", "silver moon night"])
        assert vectors.shape == (2, dimension)
        assert model.similarity(vectors, vectors)[0, 1] < 0.999
    manifest = json.loads(Path(folder, "manifest.json").read_text())
    assert {version["version"] for version in manifest["versions"]} >= {"curated_triplets@0", "triplets@0"}


def test_the_same_run_again_goes_on_and_another_is_refused_before_it_writes(flow, monkeypatch, capsys):
    tables, evaluation = flow
    folder = Path(tables.uri).parent
    sets = [f"--set={setting}" for setting in settings_for(str(folder / "teacher"))]
    words = ["jobs", "run", "--tables", tables.uri, "--name", "small", "--source", "toy", *sets]
    (folder / "other.jsonl").write_text((folder / "corpus.jsonl").read_text().upper())

    monkeypatch.setattr("sys.argv", [*words, "--input", str(folder / "corpus.jsonl")])
    assert main() == 0
    out, err = capsys.readouterr()
    assert out.startswith("models@0\n")
    assert "going on with small, which was begun with curated_triplets@0" in err
    assert evaluation.text() in out
    assert [str(tables.latest(name)) for name in ("triplets", "curated_triplets")] == [
        "triplets@0",
        "curated_triplets@0",
    ]

    monkeypatch.setattr("sys.argv", [*words, "--input", str(folder / "other.jsonl")])
    assert main() == 2
    assert "other.jsonl was not ingested before, but there is a model small" in capsys.readouterr().err
    assert str(tables.latest("triplets")) == "triplets@0"


STAGES = [
    '{name="vectors", curated_version=0, vectors=1.0, margin_mse=0.0, info_nce=0.0, max_steps=8}',
    '{name="scores", vectors=0.0, max_steps=6}',
]


@pytest.mark.slow
def test_a_model_of_two_stages_on_two_curations_goes_through_every_command(flow, monkeypatch, capsys, tmp_path):
    tables, _ = flow
    sets = settings_for(str(Path(tables.uri).parent / "teacher"))
    sets += [f"distill.stages=[{', '.join(STAGES)}]", 'curate.corrections=["swapped"]', "evaluate.max_test_queries=10"]

    def run(*words, recipe=()):
        monkeypatch.setattr("sys.argv", ["jobs", *words, "--tables", tables.uri, *(f"--set={one}" for one in recipe)])
        assert main() == 0, capsys.readouterr().err
        return capsys.readouterr()

    assert run("curate", recipe=sets).out == "curated_triplets@1\n"
    made, told = run("distill", "--name", "staged", recipe=sets)
    assert "distill: stage 2 of 2 (scores): the student after 8 steps, on curated_triplets@1" in told
    evaluated, _ = run("evaluate", "--model", "staged", recipe=sets)
    assert "student" in evaluated
    strong, weak, vectors = (one.version for one in tables.parse(made.strip()).commit.inputs)
    assert (strong, weak) == ("curated_triplets@1", "curated_triplets@0")
    for version in (strong, weak, vectors):
        assert made.strip() in run("history", version, "--downstream").out

    published = tmp_path / "published"
    run("publish", "--model", "staged", "--to", str(published))
    card = (published / "README.md").read_text()
    assert "| 1 | vectors | curated_triplets@0 |" in card
    assert "| 2 | scores | curated_triplets@1 |" in card
    assert "Of `curated_triplets@0`:" in card
    manifest = json.loads((published / "manifest.json").read_text())
    assert [one["curated"] for one in manifest["stages"]] == ["curated_triplets@0", "curated_triplets@1"]
    assert list(manifest["other_curations"]) == ["curated_triplets@0"]

    again, told = run("reproduce", "--model", str(published))
    assert again.startswith("identical: ")
    assert f"{strong} and {weak} and {vectors}: all are as they were" in told


@pytest.mark.slow
def test_a_run_that_trains_on_texts_reads_varied_copies_of_its_passages_too(flow):
    tables, _ = flow
    sets = ["score.varied_copies=1", 'distill.data="texts"', "distill.margin_mse=0", "distill.info_nce=0"]
    sets += ["distill.texts_per_step=32", "distill.max_steps=3", "evaluate.max_test_queries=10"]
    recipe = load_recipe("modernbert_small_v2", [*settings_for(str(Path(tables.uri).parent / "teacher")), *sets])
    curated = tables.parse("curated_triplets@0")

    train_all(curated, "copied", recipe, [])

    copies = [text for batch in copies_of(curated, 1) for text in batch]
    vectors = tables.latest("teacher_vectors").scan().filter(pl.col("text").is_not_null()).collect()
    assert sorted(vectors["text"]) == sorted(copies)
    data = RunFolder(tables, "copied").read(RUN)["training_data"]
    training = curated.scan().filter(pl.col("split") == "train").collect()
    texts = training["query"].n_unique() + pl.concat([training["positive"], training["negative"]]).n_unique()
    assert data["texts"] == texts + len(copies)
