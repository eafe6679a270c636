"""A training in Weights & Biases, offline: `distill.sink = "wandb"`, where the package is installed; nothing is sent.

The run is a folder, `models/NAME/wandb/offline-run-...` (or in WANDB_DIR), and `wandb sync FOLDER` uploads it
when the training has ended. A training that goes on writes it anew, from its metrics.jsonl: no step stands twice.
"""

import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.stage.errors import UserError
from pipelines.students.training.sinks import Line, Sink, Training, lines_so_far

KEPT = "wandb_run.json"


class WandbSink(Sink):
    """A run of the model's name: [distill] and the data versions as its config, numbers by step, the model at the end.

    The environment says what W&B lets it say, WANDB_PROJECT above all; the mode is always offline.
    """

    @classmethod
    def check(cls) -> None:
        if importlib.util.find_spec("wandb") is None:
            raise UserError("distill.sink is 'wandb', which is not installed: pip install wandb, or leave it out")

    def __init__(self, training: Training) -> None:
        self._training, self._is_trained = training, False
        told = training.config | {"data": dict(training.data)}
        self._kept = {"id": training.identity, "config": training.labelled(told)}

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        if resume_from is not None and (resume_from / KEPT).exists():
            kept = json.loads((resume_from / KEPT).read_text())
            self._kept = {"id": kept["id"], "config": kept["config"] | self._kept["config"]}
        folder = self._folder()
        for begun in (folder / "wandb").glob(f"offline-run-*-{self._kept['id']}"):
            shutil.rmtree(begun)
        self._run = self._begin(folder)
        for line, at in lines_so_far(resume_from):
            self._log(line, at)

    def step(self, line: Line) -> None:
        self._log(line, time.time())

    def save(self, checkpoint: Path) -> None:
        (checkpoint / KEPT).write_text(json.dumps(self._kept))

    def finish(self, save_model: Callable[[Path], object]) -> None:
        self._is_trained = True
        if not self._training.place.is_last:
            return
        import wandb

        artifact = wandb.Artifact(self._training.name or "model", type="model")
        with tempfile.TemporaryDirectory() as folder:
            save_model(Path(folder, "model"))
            artifact.add_dir(str(Path(folder, "model")))  # copied: it waits for `wandb sync`
        self._run.log_artifact(artifact)

    def end(self) -> None:
        self._run.finish(exit_code=0 if self._is_trained else 1)

    def _folder(self) -> Path:
        """Where the run's folder is made, below `wandb`, as W&B does."""
        if given := os.environ.get("WANDB_DIR"):
            return Path(given)
        if self._training.folder is None:
            raise UserError("WANDB_DIR is not set here; expected a folder that stays: the model's own is not on a disk")
        return self._training.folder

    def _begin(self, folder: Path) -> Any:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when W&B is imported
        os.environ.pop("WANDB_SERVICE", None)  # of a process before us, in which a killed run may still be in use
        import wandb  # only where a recipe asks for it

        quiet = {"silent": True, "console": "off", "save_code": False, "disable_git": True}
        quiet |= {"x_disable_stats": True, "x_disable_meta": True}  # of the machine
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "distill"),
            id=self._kept["id"],
            name=self._training.name or None,
            config=self._kept["config"],
            mode="offline",
            dir=str(folder),
            settings=wandb.Settings(**quiet),
        )

    def _log(self, line: Line, at: float) -> None:
        numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
        self._run.log(numbers | {"_timestamp": at}, step=line["step"])
