"""A training in MLflow: `distill.sink = "mlflow"`, where the package is installed; it reads MLflow's own environment.

MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where it goes, and nothing goes anywhere else. The server always has
the first steps, each once and none left out: a training that goes on sends what is missing, from its metrics.jsonl.
"""

import importlib.util
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pipelines.stage.errors import UserError
from pipelines.students.training.sinks import Line, Sink, Training, lines_so_far

RUN_ID = "mlflow_run_id"
TRAINING = "training"  # the tag by which a run is found that was killed before its first checkpoint
LONGEST_PARAMETER = 500  # characters, of older servers
PARAMETERS_AT_ONCE = 100  # that one request may have
STEPS_AT_ONCE = 20  # their metrics are well below the 1,000 that one request may have
PATIENCE_S = 300.0  # for a server that takes nothing, at the end of a training

Job = Callable[[], object]


class MlflowSink(Sink):
    """A run of the model's name: [distill] as parameters, data versions as tags, numbers by step, the model at the end.

    What asks the server does so in a thread of its own: no step waits for it.
    """

    @classmethod
    def check(cls) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise UserError("distill.sink is 'mlflow', which is not installed: pip install mlflow, or leave it out")
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise UserError(
                "distill.sink is 'mlflow', but MLFLOW_TRACKING_URI is not set here; expected where the server is, for "
                "example http://127.0.0.1:5000"
            )

    def __init__(self, training: Training) -> None:
        self._training, self._is_trained = training, False
        self._run_id: str | None = None
        self._waiting: deque[tuple[Line, float]] = deque()  # lines and when they were; only the thread takes of them
        self._sender = Sender()

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        if resume_from is not None and (resume_from / RUN_ID).exists():
            self._run_id = (resume_from / RUN_ID).read_text()
        self._sender.put(self._begin)
        for line, at in lines_so_far(resume_from):
            self._put(line, at)

    def step(self, line: Line) -> None:
        self._put(line, time.time())

    def save(self, checkpoint: Path) -> None:
        if self._run_id is not None:
            (checkpoint / RUN_ID).write_text(self._run_id)

    def finish(self, save_model: Callable[[Path], object]) -> None:
        self._is_trained = True
        if not self._training.place.is_last:
            return
        with tempfile.TemporaryDirectory() as folder:
            save_model(Path(folder, "model"))
            self._sender.put(lambda: self._client.log_artifacts(self._run_id, folder))
            self._sender.put(lambda: self._client.set_terminated(self._run_id))
            self._sender.wait()

    def end(self) -> None:
        if not self._is_trained:
            self._sender.put(lambda: self._client.set_terminated(self._run_id, status="FAILED"))
        self._sender.put(stop)
        self._sender.wait()

    def _put(self, line: Line, at: float) -> None:
        self._waiting.append((line, at))
        self._sender.put(self._log)

    def _begin(self) -> None:
        """Go on with this training's run, or begin one; in the thread."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it is read when MLflow is imported
        from mlflow import MlflowClient  # only where a recipe asks for it

        self._client: Any = MlflowClient()
        training = self._training
        if self._run_id is None:
            experiment = self._experiment()
            self._run_id = (
                self._unfinished(experiment)
                or self._client.create_run(
                    experiment, run_name=training.name or None, tags={TRAINING: training.identity}
                ).info.run_id
            )
        run = self._client.get_run(self._run_id)
        self._logged = int(run.data.metrics.get("step", -1))
        if run.info.status != "RUNNING":
            self._client.update_run(self._run_id, status="RUNNING")
        for name, value in training.labelled(training.data).items():
            self._client.set_tag(self._run_id, name, value)
        self._log_parameters()

    def _experiment(self) -> str:
        """The id of the experiment that the environment names, made if there is none."""
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _unfinished(self, experiment: str) -> str | None:
        """The run of this very training that ended before it had a checkpoint."""
        asked = f"tags.{TRAINING} = '{self._training.identity}' and attributes.status != 'FINISHED'"
        found = self._client.search_runs([experiment], asked, max_results=1)
        return str(found[0].info.run_id) if found else None

    def _log_parameters(self) -> None:
        from mlflow.entities import Param

        told = self._training.labelled(self._training.config)
        parameters = [Param(name, str(value)[:LONGEST_PARAMETER]) for name, value in told.items()]
        for first in range(0, len(parameters), PARAMETERS_AT_ONCE):
            self._client.log_batch(self._run_id, params=parameters[first : first + PARAMETERS_AT_ONCE])

    def _log(self) -> None:
        """Whole steps by one request; those after a checkpoint were logged before the kill."""
        from mlflow.entities import Metric

        metrics: list[Any] = []
        for line, at in (self._waiting.popleft() for _ in range(min(STEPS_AT_ONCE, len(self._waiting)))):
            if line["step"] > self._logged:
                numbers = {name: float(value) for name, value in line.items() if isinstance(value, int | float)}
                metrics += [Metric(name, value, round(1_000 * at), line["step"]) for name, value in numbers.items()]
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)


def stop() -> None:
    """What ends the thread when all before is done."""


class Sender:
    """A thread that does what is put to it, in order, up to the first error: whoever puts or waits next is told."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._changed, self._left = threading.Condition(), 0
        self._error: Exception | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def put(self, job: "Job") -> None:
        """Raises the error that ended the thread."""
        with self._changed:
            if self._error is not None:
                raise self._error
            self._left += 1
        self._jobs.put(job)

    def wait(self, patience_s: float = PATIENCE_S) -> None:
        """Until all is done. Raises the error that ended the thread, or TimeoutError where nothing is done any more."""
        with self._changed:
            while self._left and self._error is None:
                left = self._left
                self._changed.wait(patience_s)
                if self._left == left and self._error is None:
                    raise TimeoutError(f"the server took nothing for {patience_s:.0f} s")
            if self._error is not None:
                raise self._error

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except Exception as error:  # of whatever kind: it is raised again where the next thing is put
                self._error = error
            with self._changed:
                self._left -= 1
                self._changed.notify_all()
            if self._error is not None or job is stop:
                return
