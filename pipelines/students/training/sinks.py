"""Where a training's figures go while it runs: a file of metrics, lines of progress, and who else wants to hear.

A sink lives on rank 0, in the worker's process. Another one of ours is a subclass of Sink and its line in the list of
sinks in on_ray.py (tensorboard.py is one); a user's own is named in the recipe, `distill.sink = "module:Class"`.
"""

import importlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pipelines.checkpoints.files import METRICS
from pipelines.stage.errors import UserError, describe
from pipelines.stage.progress import Progress
from pipelines.students.place import ALONE, Place
from pipelines.students.training_config import ObjectiveConfig

NAMED = {
    "mlflow": "pipelines.students.training.mlflow_sink:MlflowSink",
    "wandb": "pipelines.students.training.wandb_sink:WandbSink",
}
TERMS = tuple(ObjectiveConfig().weights())

Line = dict[str, Any]
"""What a step says of itself: stage, step (counted over all stages), epoch, loss, each term, learning_rate, grad_norm,
sizes, triplets_per_s, queries_per_s, seconds of training so far (over all stages); and where the student was measured
dev_ndcg_at_10 and what else choosing.py tells."""


class Training(NamedTuple):
    """What a named sink is told of the training that it hears of."""

    name: str  # the model's; "" for one without a name (reproduce)
    config: dict[str, Any]  # the recipe's [distill], resolved; of several stages this one's
    data: Mapping[str, str] = MappingProxyType({})  # the versions trained on: curated.version, .table_id, .digest, ...
    place: Place = ALONE  # of this stage
    identity: str = ""  # the same for the same data and config at the same place, also after a kill
    folder: Path | None = None  # the model's, where this process sees it

    def labelled(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """By names that are this stage's own where there are several."""
        return {f"{self.place.name}.{name}" if self.place.of > 1 else name: value for name, value in told.items()}


class Sink:
    """What hears of a training. Each method does nothing unless the sink needs it.

    One that is named in the recipe is made as `Class(training)`. When it raises, that is said once, it hears no more
    (but is asked to save what it needs to go on after a kill), and the training goes on.
    """

    @classmethod
    def check(cls) -> None:
        """Asked before Ray starts: raises UserError where this sink cannot work."""

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        """Before the first step that is left: `step` of them are done, and what was saved is in `resume_from`.

        At the first step of a stage after another, that is what the sink saved at the other's end.
        """

    def step(self, line: Line) -> None:
        """After each step."""

    def save(self, checkpoint: Path) -> None:
        """Put into a checkpoint's folder what `start` needs to go on from there."""

    def finish(self, save_model: Callable[[Path], object]) -> None:
        """After the last step, its checkpoint kept: `save_model` puts the student, as trained, into a new folder."""

    def end(self) -> None:
        """At the very end, or when the training stops at an error; `finish` came before only if it did not."""


def lines_so_far(folder: Path | None) -> list[tuple[Line, float]]:
    """The lines of a folder's metrics.jsonl, if any, with when they were: they end now, as far apart as they took."""
    if folder is None:
        return []
    lines: list[Line] = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    began = time.time() - (lines[-1].get("seconds", 0.0) if lines else 0.0)
    return [(line, began + line.get("seconds", 0.0)) for line in lines]


def find_sink(name: str) -> Callable[[Training], Sink]:
    """The class that a recipe names. Raises UserError when it is not there, is no Sink, or cannot work here."""
    module, _, attribute = NAMED.get(name, name).partition(":")
    expected = f"expected {', '.join(NAMED)}, or module:Class, a subclass of {Sink.__module__}.Sink"
    if not module or not attribute:
        raise UserError(f"distill.sink is {name!r}; {expected}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a user's module raises when it is imported
        raise UserError(
            f"distill.sink is {name!r}, which cannot be imported ({describe(error)}); {expected}, in a module that "
            "Python finds (the current folder, or PYTHONPATH)"
        ) from error
    make: Callable[[Training], Sink] = found
    if not (isinstance(found, type) and issubclass(found, Sink)):
        raise UserError(f"distill.sink is {name!r}, which is no sink; {expected}")
    found.check()
    return make


class Guarded(Sink):
    """A sink that the training does not need: at its first error it is left out, and that is said."""

    def __init__(self, name: str, make: Callable[[], Sink], print_line: Callable[[str], object]) -> None:
        self._name, self._make, self._print_line = name, make, print_line
        self._sink: Sink | None = None  # that hears
        self._saving: Sink | None = None  # also one that failed: it may go on after a kill
        self._has_failed = False

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        with self._left_out_at_an_error():
            self._sink = self._saving = self._make()
            self._sink.start(step, num_steps, resume_from)

    def step(self, line: Line) -> None:
        with self._left_out_at_an_error():
            if self._sink:
                self._sink.step(dict(line))

    def save(self, checkpoint: Path) -> None:
        with self._left_out_at_an_error():
            saving, self._saving = self._saving, None
            if saving:
                saving.save(checkpoint)
            self._saving = saving

    def finish(self, save_model: Callable[[Path], object]) -> None:
        with self._left_out_at_an_error():
            if self._sink:
                self._sink.finish(save_model)

    def end(self) -> None:
        with self._left_out_at_an_error():
            if self._sink:
                self._sink.end()

    @contextmanager
    def _left_out_at_an_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of whatever kind: no sink is worth a training
            self._sink = None
            if not self._has_failed:
                self._print_line(f"distill: {self._name} failed and is left out from here on ({describe(error)})")
            self._has_failed = True


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
    """Lines for the user: step, time to go and speed of this run so far, loss with its terms; and the dev figures.

    Args:
        rated_in: what the speed counts: a size that every step's line has.
    """

    def __init__(
        self,
        print_line: Callable[[str], object],
        place: Place = ALONE,
        rated_in: Literal["queries", "texts"] = "queries",
    ) -> None:
        self._print_line, self._place, self._rated_in, self._is_warm = print_line, place, rated_in, False
        self._written = ""

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        if 0 < step < num_steps:
            self._print_line(f"{self._place}: goes on after step {step:,} of {num_steps:,}, the last checkpoint")
        said = "{stage}: step {done:,} of {total:,}"
        self._progress = Progress(str(self._place), "steps", done=step + 1, total=num_steps, said=said,
                                  rated_in=self._rated_in, tell=self._print_line)  # fmt: skip

    def step(self, line: Line) -> None:
        if self._is_warm:
            self._progress.advance(1, rated=line[self._rated_in], suffix=_losses(line) + self._written)
        else:
            self._progress.start()  # the first step pays for warming up: it is no measure
            self._is_warm = True
        if "dev_ndcg_at_10" in line:
            self._print_line(_dev(line, self._place))

    def save(self, checkpoint: Path) -> None:
        self._written = f"; step {self._progress.done:,} is written"


def _losses(line: Line) -> str:
    """`, loss 1.23 (margin_mse 0.0412, info_nce 1.19)`; a terminal cuts what it has no room for."""
    terms = [f"{term} {line[term]:.3g}" for term in TERMS if term in line]
    return f", loss {line['loss']:.3g}" + (f" ({', '.join(terms)})" if len(terms) > 1 else "")


def _dev(line: Line, place: Place) -> str:
    """What a dev evaluation found, and what all of the stage's took; its steps are counted."""
    taken, done = line["dev_seconds"], line["step"] + 1 - place.steps_before
    share = taken / (taken + line["seconds"] - place.seconds_before)
    since = line["dev_steps_since_best"]
    best = f"the best was {since:,} steps before" if since else "the best so far"
    return f"{place}: dev nDCG@10 {line['dev_ndcg_at_10']:.4f} after step {done:,}, {best}; {share:.0%} of the time"
