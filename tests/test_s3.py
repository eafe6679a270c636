"""The whole flow on an object store, models included; secrets come from the environment alone, rivals stay exact."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import ray
from pyarrow import fs
from sentence_transformers import SentenceTransformer

from jobs.recipe import load_recipe
from jobs.run import run_all
from pipelines import ingest, publish
from pipelines.checkpoints.find import find
from pipelines.storage import Invocation, Tables
from tests import object_store
from tests.in_process import run_jobs
from tests.test_flow import settings_for, write_corpus
from tests.tiny import tiny_bi_encoder

ROOT = Path(__file__).parents[1]
SECRET = object_store.SETTINGS["AWS_SECRET_ACCESS_KEY"].encode()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    return tiny_bi_encoder(tmp_path_factory.mktemp("teacher") / "encoder", num_layers=4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    write_corpus(path)
    return str(path)


@pytest.fixture(scope="module")
def flow(ray_cluster, bucket, teacher, corpus):
    recipe = load_recipe("modernbert_small_v2", [*settings_for(teacher), "distill.max_steps=6"])
    tables = Tables.at(f"{bucket}/tables", Invocation(recipe.model_dump(mode="json")))
    triplets = ingest.run(tables, [corpus], recipe.ingest, columns={}, source="toy")
    return tables, run_all(triplets, "small", recipe, [])


def test_a_model_is_trained_evaluated_and_published_on_s3(flow, bucket, tmp_path, monkeypatch):
    tables, evaluation = flow
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    folder = publish.run(tables, "small", f"{bucket}/published")

    assert set(evaluation.summary["system"]) == {"student", "untrained", "teacher", "bm25"}
    vectors = SentenceTransformer(str(find(folder)), device="cpu").encode(["red river fish"])
    assert vectors.shape == (1, 32)
    assert pl.scan_delta(tables.url("models"), storage_options=tables.polars_options).collect().height == 1


def test_it_is_made_again_byte_for_byte(flow, capsys, tmp_path):
    tables, _ = flow
    words = ["--tables", tables.uri, "--model", "small", "--output", str(tmp_path / "again")]

    assert run_jobs("reproduce", *words) == 0

    assert capsys.readouterr().out.startswith("identical: ")


def test_no_secret_is_written(flow):
    """Of the whole bucket no object holds the key that opened it; here it is a word that stands nowhere else."""
    tables, _ = flow
    s3, path = tables.filesystem()
    files = [file for file in s3.get_file_info(fs.FileSelector(path, recursive=True)) if file.is_file]

    assert len(files) > 30
    assert not [file.path for file in files if SECRET in s3.open_input_stream(file.path).read()]


class Failing:
    """A store that answers nothing for a while once rows are written, and every second commit with an error."""

    def __init__(self) -> None:
        self.ends: float | None = None
        self.refused, self.lost, self.commits = 0, 0, set[str]()

    def fault(self, request: object_store.Request) -> int | None:
        if self.ends is None and (request.method, "/scored_triplets/" in request.path) == ("PUT", True):
            self.ends = time.monotonic() + object_store.OUTAGE_S
        if self.ends is None or time.monotonic() >= self.ends:
            return None
        self.refused += 1
        return 503

    def loses(self, request: object_store.Request) -> bool:
        if request.method != "PUT" or "/_delta_log/" not in request.path or request.path in self.commits:
            return False
        self.commits.add(request.path)
        is_lost = len(self.commits) % 2 == 1
        self.lost += is_lost
        return is_lost


@pytest.mark.parametrize("chunk_rows", [(15, 20), pytest.param((15, 20, 32), marks=pytest.mark.slow)], ids=len)
def test_drivers_at_once_score_each_row_once_through_a_store_that_fails(
    ray_cluster, bucket, teacher, corpus, chunk_rows
):
    """Processes with chunks of several sizes and a commit after each chunk; Ray's cluster is the tests' own."""
    tables = Tables.at(f"{bucket}/rivals_{len(chunk_rows)}")
    triplets = ingest.run(tables, [corpus], load_recipe("modernbert_small_v2", []).ingest, columns={}, source="toy")
    settings = ["score.max_actors=1", "score.commit_every_s=0", *settings_for(teacher)]
    named = [word for setting in settings for word in ("--set", setting)]
    failing = Failing()
    with object_store.Proxy(failing.fault, failing.loses).serving() as proxy:
        drivers = [
            _driver(proxy.url, ["--tables", tables.uri, "--set", f"score.chunk_rows={rows}", *named])
            for rows in chunk_rows
        ]
        told = [driver.communicate(timeout=240) for driver in drivers]

    assert [driver.returncode for driver in drivers] == [0] * len(chunk_rows), told
    scored = tables.newest("scored_triplets").scan().collect()
    assert scored["triplet_id"].n_unique() == len(scored) == triplets.scan().collect().height
    assert scored["scoring_error"].null_count() == len(scored)
    assert failing.refused
    assert failing.lost


def _driver(endpoint: str, words: list[str]) -> subprocess.Popen[str]:
    """`score` in a process of its own, its tasks on the tests' cluster, with an object store at this address."""
    settings = object_store.SETTINGS | {"AWS_ENDPOINT_URL": endpoint}
    job = {"runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT), **settings}}}
    environment = {
        **os.environ,
        **settings,
        "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
        "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job),  # as in a Ray job, whose sources are on the cluster
    }
    command = [sys.executable, "-m", "jobs", "score", *words]
    piped = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=piped, stderr=piped, text=True)
