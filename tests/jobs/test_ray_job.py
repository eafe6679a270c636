"""Commands as Ray jobs, on a real cluster: what they write is what they write here, and it says which job wrote it."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from jobs import submit
from pipelines.storage import Tables
from pipelines.storage.lineage import code
from tests.clusters import TOKEN
from tests.in_process import run_jobs
from tests.scored_versions import scored_rows, write_triplets
from tests.tiny import WORDS, tiny_cross_encoder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(cluster):
    return JobSubmissionClient(cluster.address)


@pytest.fixture
def submitted(cluster, capfd):
    """Run `python -m jobs submit -- COMMAND` in this process; gives its exit code, stdout and stderr."""

    def call(*command):
        return run_jobs("submit", "--address", cluster.address, "--", *command), *capfd.readouterr()

    return call


def test_ray_job_submit_scores_each_triplet_once_and_says_which_job_did(cluster, client, tmp_path):
    tables = Tables.at(str(tmp_path / "tables"))
    rows = scored_rows([(f"what is {word}", f"a {word}", 0.0, "the king", 0.0) for word in WORDS[40:60]])
    triplets = write_triplets(tables, rows)
    teacher = tiny_cross_encoder(tmp_path / "judge")
    ray = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", cluster.address]
    ray += ["--submission-id=scores", "--working-dir=.", "--", "python", "-m", "jobs", "score", "--tables", tables.uri]
    settings = [f"teacher={teacher}", "max_tokens=64", "max_actors=1", "chunk_rows=20"]

    command = [*ray, *(f"--set=score.{setting}" for setting in settings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert client.get_job_status("scores") == JobStatus.SUCCEEDED, done.stdout + done.stderr
    scored = pl.scan_delta(tables.path("scored_triplets")).collect()
    assert sorted(scored["triplet_id"]) == sorted(triplets.scan().collect()["triplet_id"])
    assert scored["positive_score"].null_count() == scored["scoring_error"].n_unique() - 1 == 0
    told = tables.latest("scored_triplets").commit
    assert told.ray_job == "scores"
    assert told.code.model_dump() == {"commit": "", "is_dirty": None, "sources_digest": code().sources_digest}


def test_submit_prints_the_version_alone_and_stamps_the_commit(cluster, submitted, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"query": "a", "positive": "b", "negative": "c"}\n')

    exit_code, out, err = submitted("ingest", "--tables", tmp_path / "tables", "--input", tmp_path / "rows.jsonl")

    assert (exit_code, out) == (0, "triplets@0\n"), err
    assert "1 row: 1 accepted" in err
    told = Tables.at(str(tmp_path / "tables")).latest("triplets").commit
    assert told.ray_job in err
    assert told.code == code()
    uploaded = [path for path in (cluster.folder / "session_latest").glob("runtime_resources/working_dir_files/*/*")]
    assert {"jobs", "pipelines", "schemas", "README.md"} <= {path.name for path in uploaded}
    assert {path.name for path in uploaded} & {".git", ".venv", "quickstart", "shared"} == set()
    for package in {path.parent for path in uploaded}:  # what Python compiled there since was not sent
        sent = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        assert sum(path.stat().st_size for path in sent) < 5 << 20


def test_check_asks_each_node_of_the_cluster(submitted, tmp_path):
    teacher = tiny_cross_encoder(tmp_path / "judge")

    exit_code, out, err = submitted("check", "--tables", tmp_path / "tables", "--set", f"score.teacher={teacher}")

    assert exit_code == 0, err
    told = [line for line in (out + err).splitlines() if line.startswith("  node ")]
    assert len(told) == 6  # versions, four clients of the root, the teacher
    assert "Python and packages are those here" in told[0]
    assert all("  ok" in line for line in told)


def test_submit_keeps_the_exit_code_of_a_refused_command(submitted):
    exit_code, out, err = submitted("models", "--tables", "somewhere")

    assert (exit_code, out) == (2, "")
    assert "error: tables root somewhere is relative" in err


def test_a_cluster_with_a_token_takes_jobs_and_commands_with_its_token_alone(token_cluster, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"query": "a", "positive": "b", "negative": "c"}\n')
    (tmp_path / "token").write_text(TOKEN)
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    without |= {"HOME": str(tmp_path), "TABLES": str(tmp_path / "tables")}  # a token file may lie in the user's own

    def call(*words, **variables):
        command = [sys.executable, "-m", "jobs", *words]
        done = subprocess.run(command, cwd=ROOT, env=without | variables, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    submit_ingest = ["submit", "--address", token_cluster.address, "--", "ingest", "--input", tmp_path / "rows.jsonl"]
    for variables, told in [
        ({}, "none was found here"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "another one was sent"),
    ]:
        exit_code, out, err = call(*submit_ingest, **variables)
        error = f"error: the cluster at --address {token_cluster.address} answers only to who has its token, and {told}"
        assert (exit_code, out) == (2, "")
        assert error in err
        assert "Traceback" not in err
        assert TOKEN not in err
    assert call(*submit_ingest, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))[:2] == (0, "triplets@0\n")

    joined = {"RAY_ADDRESS": token_cluster.joined_at()}
    teacher = tiny_cross_encoder(tmp_path / "judge")
    score = ["score", "--set", f"score.teacher={teacher}", "--set", "score.max_tokens=64"]
    exit_code, out, err = call(*score, **joined, RAY_AUTH_TOKEN="0" * 64)
    assert (exit_code, out) == (2, "")
    assert "answers only to who has its token, and another one was sent" in err
    assert "Traceback" not in err
    assert call(*score, **joined, RAY_AUTH_TOKEN=TOKEN)[:2] == (0, "scored_triplets@1\n")


@pytest.mark.slow
def test_gpus_that_come_from_none_score_each_triplet_once(cluster_of_a_head, tmp_path):
    tables = Tables.at(str(tmp_path / "tables"))
    rows = scored_rows([(f"what is {word}", f"a {word}", 0.0, "the king", 0.0) for word in WORDS[:60]])
    triplets = write_triplets(tables, rows)
    settings = [f"teacher={tiny_cross_encoder(tmp_path / 'judge')}", "max_tokens=64", "chunk_rows=4"]
    settings += ["use_gpu=true", "max_actors=2"]
    command = [sys.executable, "-m", "jobs", "score", "--tables", tables.uri]
    command += [f"--set=score.{setting}" for setting in settings]
    environment = os.environ | {"RAY_ADDRESS": cluster_of_a_head.joined_at()}

    scoring = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        told = next(line for line in scoring.stderr if "waiting for more nodes" in line)
        assert "an actor needs 1 GPUs, and there are 0 GPUs" in told
        cluster_of_a_head.add_gpu()
        cluster_of_a_head.add_gpu()
        rest = scoring.communicate()[1]
    finally:
        scoring.kill()

    assert scoring.returncode == 0, rest
    scored = pl.scan_delta(tables.path("scored_triplets")).collect()
    assert sorted(scored["triplet_id"]) == sorted(triplets.scan().collect()["triplet_id"])


def test_a_stopped_job_is_a_failure(client, capfd):
    job = client.submit_job(entrypoint="sleep 600")
    while client.get_job_status(job) == JobStatus.PENDING:
        pass
    client.stop_job(job)

    assert submit.follow(client, job) == 3
    assert "STOPPED" in capfd.readouterr().err


def test_a_dashboard_that_does_not_answer_is_told(capsys):
    assert run_jobs("submit", "--address", "http://127.0.0.1:9", "--", "models") == 1
    assert "http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--env", "AWS_SECRET_ACCESS_KEY=abc", "--", "score"], "--env AWS_SECRET_ACCESS_KEY"),
        (["--", "score", "--note", "with 0123456789secret"], "the value of STORE_TOKEN"),
        (["--env", "STORE=0123456789secret", "--", "score"], "the value of STORE_TOKEN"),
        (["--", "ingest", "--input", "https://me:word@host/rows"], "a URL with a password"),
    ],
)
def test_a_secret_is_never_forwarded(monkeypatch, capsys, arguments, told):
    monkeypatch.setenv("STORE_TOKEN", "0123456789secret")

    assert run_jobs("submit", "--address", "http://127.0.0.1:9", *arguments) == 2
    error = capsys.readouterr().err
    assert f"error: {told} would be forwarded" in error
    assert "0123456789secret" not in error
