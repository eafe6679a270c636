"""No sequence of commands but `erase` makes a published model irreproducible, or takes what a tag keeps."""

import json
import random
import re
from pathlib import Path

import polars as pl
import pytest

from pipelines.storage import Tables
from tests.aged import age
from tests.in_process import run_jobs
from tests.test_flow import settings_for
from tests.tiny import WORDS, tiny_bi_encoder

SETS = ["distill.max_steps=3", "distill.dimensions=[32]", "curate.test_share=0.1", "evaluate.max_test_queries=5"]
ALL_IS_OLD = 400  # days


@pytest.fixture
def run(ray_cluster, tmp_path, capsys):
    """Run a command on the root; gives its stdout. Recipes are given to the stages."""
    sets = [*settings_for(tiny_bi_encoder(tmp_path / "teacher", num_layers=4)), *SETS]

    def call(*words, code=0):
        given = sets if words[0] in ("ingest", "score", "curate", "distill") else []
        own = ["--tables", str(tmp_path / "tables"), *(f"--set={one}" for one in given)]
        assert run_jobs(words[0], *own, *words[1:]) == code, capsys.readouterr().err
        return capsys.readouterr().out

    return call


def corpus(path: Path, seed: int) -> str:
    rows = []
    for number in range(24):
        words = random.Random(f"{seed} {number}").sample(WORDS, 12)
        texts = {"query": words[:4], "positive": words[1:7], "negative": words[7:]}
        rows.append({name: " ".join(text) for name, text in texts.items()} | {"external_id": f"person {number % 6}"})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def test_whatever_else_is_done_a_published_model_is_made_again_byte_for_byte(run, tmp_path):
    tables, published = Tables.at(str(tmp_path / "tables")), str(tmp_path / "published")
    run("ingest", "--input", corpus(tmp_path / "first.jsonl", seed=1))
    run("score", "--vectors")
    run("curate")
    run("distill", "--name", "small")
    run("publish", "--model", "small", "--to", published)
    run("curate", "--set=curate.corrections=[]")
    run("tag", "kept", "curated_triplets@1")

    def vacuum():
        age(tables, ALL_IS_OLD)
        run("vacuum", "--yes")

    others = [
        lambda: run("ingest", "--input", corpus(tmp_path / "second.jsonl", seed=2)),
        lambda: run("score"),
        lambda: run("curate", "--set=curate.test_share=0.3"),
        lambda: run("curate", "--set=curate.dev_share=0.3"),
        lambda: run("compact"),
        lambda: run("compact", "--target-mb", "0.001"),
        lambda: run("tag", "fleeting", str(tables.latest("scored_triplets"))),
        vacuum,
        vacuum,
    ]
    random.Random(0).shuffle(others)
    for command in others:
        command()
    run("tag", "--remove", "fleeting")
    run("curate", "--set=curate.test_share=0.4")
    run("compact")
    vacuum()

    curations = tables.latest("curated_triplets").history()
    lost = [str(version) for version in curations if version.unreadable is not None]
    assert lost, "a vacuum that takes nothing would prove nothing"
    assert run("reproduce", "--model", published, "--output", str(tmp_path / "again")).startswith("identical: ")
    old, new = tables.path("models", "small", "model"), tmp_path / "again" / "model"
    assert Path(old, "model.safetensors").read_bytes() == (new / "model.safetensors").read_bytes()
    assert tables.parse("kept").unusable is None
    run("publish", "--model", "small", "--to", published)
    assert re.search("unreadable", Path(published, "manifest.json").read_text()) is None

    (tmp_path / "leaving.txt").write_text("person 1\n")
    theirs = pl.col("external_id") == "person 1"
    num_rows = tables.parse("curated_triplets@0").scan().filter(theirs).collect().height
    told = run("erase", "--external-ids", str(tmp_path / "leaving.txt"))
    assert re.search(rf"small@\w+ *\| curated_triplets@0 *\| {num_rows} ", told)
    assert run("reproduce", "--model", published, code=4) == f"not identical: {num_rows} rows erased\n"
