"""Where a test can hold a training still to kill something: Ray Train's own hooks, no line of ours.

Ray Train imports KillPoint in the driver (RAY_TRAIN_CALLBACKS) and sends it to the controller and the workers. At the
point that KILL_AT names it writes `reached`, and waits for `go`: what is killed meanwhile is killed exactly there.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.v2._internal.execution.callback import (
    ControllerCallback,
    ReportCallback,
    TrainContextCallback,
    WorkerCallback,
)

POINTS = {  # of a checkpoint, in the order in which it passes them -> what has happened by then
    "saved": "rank 0 has written it to its own disk; nothing is in the storage",
    "half copied": "some of its files are in the storage, one of them cut short",
    "copied": "all of its files are in the storage; nobody knows of it",
    "reported": "the worker has told of it; the controller may not have heard",
    "kept": "the controller has written down that it is the last one",
}
TRAINED = "trained"  # the last checkpoint is kept; nothing has been copied to models/NAME yet
SETTINGS = "KILL_AT"


class KillPoint(WorkerCallback, TrainContextCallback, ReportCallback, ControllerCallback):
    """Holds the training at the `nth` passing of a point, once."""

    def __init__(self) -> None:
        settings = json.loads(os.environ[SETTINGS])
        self._folder, self._point, self._nth = Path(settings["folder"]), settings["point"], settings["nth"]

    def after_init_train_context(self) -> None:
        """Who is which rank: for the one who kills."""
        rank, node = ray.train.get_context().get_world_rank(), ray.get_runtime_context().get_node_id()
        unfinished = self._folder / f"rank_{rank}.unfinished"
        unfinished.write_text(json.dumps({"pid": os.getpid(), "node": node}))
        unfinished.rename(self._folder / f"rank_{rank}")

    @contextmanager
    def on_checkpoint_transfer(self) -> Iterator[None]:
        self._hold_at("saved")
        yield
        self._hold_at("half copied", "copied")

    @contextmanager
    def on_report(self) -> Iterator[None]:
        yield
        if ray.train.get_context().get_world_rank() == 0:
            self._hold_at("reported")

    def after_report(self, training_report: Any, metrics: Any) -> None:
        self._hold_at("kept")

    def after_controller_finish(self, result: Any) -> None:
        self._hold_at(TRAINED)

    def _hold_at(self, *points: str) -> None:
        if self._point not in points or (self._folder / "reached").exists() or self._pass() != self._nth:
            return
        (self._folder / "reached").touch()
        while not (self._folder / "go").exists():
            time.sleep(0.01)

    def _pass(self) -> int:
        """How often the point has been passed, this time included: in all stages, each of which has new processes."""
        with (self._folder / "passed").open("ab", buffering=0) as passed:
            passed.write(b".")
            return passed.tell()
