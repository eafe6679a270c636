"""A corpus of passages alone, to a model, by one command: generate, mine, score, curate, distill, evaluate."""

import json
import random
from pathlib import Path

import polars as pl
import pytest

from pipelines.inspection.graph import upstream_of
from pipelines.storage import Tables
from tests.in_process import run_jobs
from tests.llm_endpoint import Faults, serving
from tests.test_flow import settings_for
from tests.tiny import WORDS, tiny_bi_encoder

NUM_PASSAGES = 120
MORE = ["curate.test_share=0.3", "distill.max_steps=4", "evaluate.max_test_queries=10", "mine.first_rank=1"]
MORE += ["mine.max_positive_share=1.0", "distill.vectors=0.0", "generate.commit_every_s=0.2", "generate.max_retries=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("passages")
    rows = [{"_id": n, "text": " ".join(random.Random(n).choices(WORDS, k=30))} for n in range(NUM_PASSAGES)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def run(folder, ray_cluster, monkeypatch, capsys):
    monkeypatch.setenv("TABLES", str(folder / "tables"))
    teacher = tiny_bi_encoder(folder / "teacher", num_layers=4)

    def call(server, *words):
        sets = [*settings_for(teacher), *MORE, "generate.model=rules", f"generate.endpoint={server.url}"]
        named = [f"--set={one}" for one in sets]
        code = run_jobs("run", "--generate", "--input", folder / "corpus.jsonl", "--name", "small", *named, *words)
        return code, *capsys.readouterr()

    return call


@pytest.mark.slow
def test_passages_become_a_model_whose_history_leads_to_them(run, folder):
    with serving(Faults(fails=0.1, malformed=0.1)) as server:
        code, out, err = run(server, "--price-per-million", "0.15,0.60", "--set=generate.max_cost=0.01")
        assert code == 3, err
        assert "the same command with a larger one goes on" in err
        assert "triplets" not in out

        code, out, err = run(server)
        assert code == 0, err
        tables = Tables.at(str(folder / "tables"))
        generated = tables.latest("generated_queries").scan().collect()
        pairs = generated.filter(pl.col("reason").is_null())
        assert (len(generated), generated["passage_id"].n_unique()) == (NUM_PASSAGES, NUM_PASSAGES)
        made = {str(version): version for _, version in upstream_of(tables.parse("models@0"))}
        (version,) = (version for name, version in made.items() if name.startswith("generated_queries@"))
        assert Path(version.commit.result.ingested_files[0].path).name == "corpus.jsonl"
        assert f"{version}\n" in out
        triplets = tables.parse("triplets@0").scan().collect()
        assert set(triplets["query"]) == set(pairs["query"])
        assert (triplets["miner"] == "given").sum() > 0

        asked = server.ledger.requests
        code, out, err = run(server)
        assert code == 0, err
        assert "going on with small" in err
        assert server.ledger.requests == asked
    assert run_jobs("publish", "--model", "small", "--to", folder / "published") == 0
    (told,) = json.loads((folder / "published" / "manifest.json").read_text())["generated"]
    assert (told["version"], told["generator"][:6]) == (str(version), "rules@")
    assert [Path(file["path"]).name for file in told["files"]] == ["corpus.jsonl"]
    assert f"The queries of `{version}` are no people's" in (folder / "published" / "README.md").read_text()
