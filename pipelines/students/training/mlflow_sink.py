"""A training in MLflow: `distill.sink = "mlflow"`, where the package is installed; it reads MLflow's own environment.

MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where it goes. A run that went on from a checkpoint goes on in
MLflow's run too, and no step stands there twice.
"""

import importlib.util
from pathlib import Path
from typing import Any

from pipelines.stage.errors import UserError
from pipelines.students.training.sinks import Line, Sink, Training

RUN_ID = "mlflow_run_id"
LONGEST_PARAMETER = 500  # characters, of older servers


class MlflowSink(Sink):
    """A run of the model's name: the recipe's [distill] as parameters, every number of every step as metrics."""

    @classmethod
    def check(cls) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise UserError("distill.sink is 'mlflow', which is not installed: pip install mlflow, or leave it out")

    def __init__(self, training: Training) -> None:
        import mlflow  # only where a recipe asks for it

        self._mlflow: Any = mlflow
        self._training, self._logged = training, -1

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        kept = resume_from / RUN_ID if resume_from else None
        begun = kept.read_text() if kept and kept.exists() else None
        self._run_id = self._mlflow.start_run(run_id=begun, run_name=self._training.name or None).info.run_id
        if begun:
            steps = (one.step for one in self._mlflow.MlflowClient().get_metric_history(begun, "loss"))
            self._logged = max(steps, default=-1)
        else:
            told = {name: str(value)[:LONGEST_PARAMETER] for name, value in self._training.config.items()}
            self._mlflow.log_params(told)

    def step(self, line: Line) -> None:
        if line["step"] > self._logged:  # those after the checkpoint were logged before the kill
            numbers = {name: float(value) for name, value in line.items() if isinstance(value, int | float)}
            self._mlflow.log_metrics(numbers, step=line["step"], synchronous=False)  # training waits for no server

    def save(self, checkpoint: Path) -> None:
        (checkpoint / RUN_ID).write_text(self._run_id)

    def end(self) -> None:
        self._mlflow.flush_async_logging()
        self._mlflow.end_run()
