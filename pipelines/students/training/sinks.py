"""Where a training's figures go while it runs: today a file of metrics and lines of progress.

A sink lives on rank 0, in the worker's process. Another one (TensorBoard) is a subclass of Sink here, and its line in
the list of sinks in on_ray.py.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.checkpoints.files import METRICS
from pipelines.stage.progress import Progress
from pipelines.students.place import ALONE, Place

Line = dict[str, Any]
"""What a step says of itself: stage, step (counted over all stages), epoch, loss, each term, learning_rate, grad_norm,
sizes, triplets_per_s."""


class Sink:
    """What hears of a training. Each method does nothing unless the sink needs it."""

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        """Before the first step that is left: `step` of them are done, and what was saved is in `resume_from`.

        At the first step of a stage after another, that is what the sink saved at the other's end.
        """

    def step(self, line: Line) -> None:
        """After each step."""

    def save(self, checkpoint: Path) -> None:
        """Put into a checkpoint's folder what `start` needs to go on from there."""

    def end(self) -> None:
        """After the last step, or when the training stops at an error."""


class MetricsFile(Sink):
    """metrics.jsonl: a line per step, each step once, also in a run that was killed and went on."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        if resume_from is not None:
            shutil.copy(resume_from / METRICS, self._path)  # no line past the checkpoint's step
        self._file = self._path.open("w" if resume_from is None else "a", buffering=1)  # written line by line

    def step(self, line: Line) -> None:
        self._file.write(json.dumps(line) + "\n")

    def save(self, checkpoint: Path) -> None:
        shutil.copy(self._path, checkpoint / METRICS)

    def end(self) -> None:
        self._file.close()


class ProgressLines(Sink):
    """Lines for the user: step, loss, speed, and the time to go at the speed of this run so far."""

    def __init__(self, print_line: Callable[[str], object], place: Place = ALONE) -> None:
        self._print_line, self._place, self._is_warm = print_line, str(place), False

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        if 0 < step < num_steps:
            self._print_line(f"{self._place}: goes on after step {step:,} of {num_steps:,}, the last checkpoint")
        said = "{stage}: step {done:,} of {total:,}"
        self._progress = Progress(self._place, "steps", done=step + 1, total=num_steps, said=said, rated_in="triplets",
                                  tell=self._print_line)  # fmt: skip

    def step(self, line: Line) -> None:
        if self._is_warm:
            self._progress.advance(1, rated=line["triplets"], suffix=f", loss {line['loss']:.4g}")
        else:
            self._progress.start()  # the first step pays for warming up: it is no measure
            self._is_warm = True
