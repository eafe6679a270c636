"""Trainings in a real MLflow server with a SQLite backend, which is killed, as the trainings are."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipelines.checkpoints.name import weights_sha256
from pipelines.checkpoints.run_folder import MODEL, RUN
from pipelines.stage.errors import UserError
from pipelines.students.training.mlflow_sink import Sender
from pipelines.students.training.sinks import find_sink
from tests.heard_trainings import STEPS, Trainings, finish, kill, wait

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed: pip install mlflow")


def test_what_is_put_is_done_in_order_and_the_first_error_is_told_to_whoever_puts_next():
    done, sender = [], Sender()
    for number in range(3):
        sender.put(lambda number=number: done.append(number))
    sender.wait()
    sender.put(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        sender.wait()
    with pytest.raises(ZeroDivisionError):
        sender.put(lambda: done.append(3))
    assert done == [0, 1, 2]


def test_a_server_that_takes_nothing_is_waited_for_as_long_as_said():
    sender = Sender()
    sender.put(lambda: time.sleep(0.5))

    with pytest.raises(TimeoutError, match="the server took nothing for 0 s"):
        sender.wait(0.05)
    sender.wait(5.0)


@needs_mlflow
def test_without_an_address_it_is_refused(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI is not set here; expected where the server is"):
        find_sink("mlflow")


class Server:
    """`mlflow server` on a port of its own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._folder, self.uri = folder, f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self._port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                command, start_new_session=True, cwd=self._folder, env=environment, stdout=log, stderr=log
            )
        wait(self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def runs(self, name: str) -> list[Any]:
        from mlflow import MlflowClient

        client = MlflowClient(self.uri)
        return list(client.search_runs(["0"], f"attributes.run_name = '{name}'"))

    def last_step(self, name: str) -> int:
        return max((int(run.data.metrics.get("step", -1)) for run in self.runs(name)), default=-1)

    def steps(self, run: Any, metric: str) -> list[int]:
        """Of each value of a metric that the server has, its step."""
        from mlflow import MlflowClient

        return [one.step for one in MlflowClient(self.uri).get_metric_history(run.info.run_id, metric)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Trainings:
    environment = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    return Trainings(tmp_path_factory.mktemp("trainings"), **environment)


@pytest.fixture(scope="module")
def unheard(trainings: Trainings) -> str:
    """The weights of a training without a sink."""
    finish(trainings.start("unheard"))
    return weights_sha256(trainings.folder("unheard") / MODEL)


@pytest.mark.slow
@needs_mlflow
def test_a_killed_training_goes_on_in_the_same_run_with_each_step_once_and_its_model(trainings, server, unheard):
    training = trainings.start("killed", "mlflow")
    wait(lambda: server.last_step("killed") > trainings.last_checkpoint("killed") >= 20, training)
    kill(training)
    print(f"\nkilled after step {server.last_step('killed')}, the checkpoint: {trainings.last_checkpoint('killed')}")
    finish(trainings.start("killed", "mlflow"))

    (run,) = server.runs("killed")
    for metric in ("loss", "step", "learning_rate", "queries_per_s"):
        assert sorted(server.steps(run, metric)) == list(range(STEPS))
    assert run.info.status == "FINISHED"
    trained = json.loads((trainings.folder("killed") / RUN).read_text())
    told = {role: run.data.tags[f"curated.{role}"] for role in ("version", "table_id", "digest")}
    assert told == trained["curated"] == trainings.curated.identity()
    assert (run.data.params["learning_rate"], run.data.params["dimensions"]) == ("0.001", "[32, 8]")
    assert set(run.data.params) == set(trained["config"]) - {"sink"}
    assert weights_sha256(trainings.folder("killed") / MODEL) == unheard
    assert weights_sha256(downloaded(server, run)) == unheard


def downloaded(server: Server, run: Any) -> Path:
    """The run's artefact."""
    from mlflow import MlflowClient

    return Path(MlflowClient(server.uri).download_artifacts(run.info.run_id, "model"))


@pytest.mark.slow
@needs_mlflow
def test_a_training_killed_before_its_first_checkpoint_begins_no_second_run(trainings, server, unheard):
    training = trainings.start("early", "mlflow")
    wait(lambda: server.last_step("early") >= 0, training)
    kill(training)
    finish(trainings.start("early", "mlflow"))

    (run,) = server.runs("early")
    assert sorted(server.steps(run, "loss")) == list(range(STEPS))


@pytest.mark.slow
@needs_mlflow
def test_a_server_that_dies_changes_no_weight_is_told_once_and_has_each_step_when_it_is_back(
    trainings, server, unheard
):
    training = trainings.start("alone", "mlflow")
    wait(lambda: server.last_step("alone") >= 10, training)
    server.kill()
    told = finish(training)
    server.start()

    assert told.count("the sink mlflow failed and is left out from here on") == 1
    assert weights_sha256(trainings.folder("alone") / MODEL) == unheard
    (run,) = server.runs("alone")
    logged = sorted(server.steps(run, "loss"))
    assert logged == list(range(len(logged)))  # the first ones, each once
    assert 10 < len(logged) < STEPS
    print(f"\nthe server died after {len(logged)} steps; it was told so:\n{told}")


@pytest.mark.slow
@needs_mlflow
def test_a_training_that_goes_on_sends_what_a_dead_server_missed(trainings, server, unheard):
    training = trainings.start("both", "mlflow")
    wait(lambda: trainings.last_checkpoint("both") >= 20 and server.last_step("both") >= 20, training)
    server.kill()
    before = trainings.last_checkpoint("both")
    wait(lambda: trainings.last_checkpoint("both") >= before + 60, training)
    kill(training)
    server.start()
    had = server.last_step("both") + 1
    finish(trainings.start("both", "mlflow"))

    (run,) = server.runs("both")
    print(f"\nthe server had {had} steps; the training went on to {before + 60} and more before it was killed")
    assert Counter(server.steps(run, "loss")) == Counter(range(STEPS))
    assert run.info.status == "FINISHED"
    assert weights_sha256(downloaded(server, run)) == weights_sha256(trainings.folder("both") / MODEL) == unheard
