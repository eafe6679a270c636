"""TensorBoard's files of a training: always written, a function of metrics.jsonl.

    EventFiles     while it trains, where its folder can be seen
    write_events   metrics.jsonl -> the same, anew

A run that went on from a checkpoint, and one that ended, has them written anew from its metrics: no step stands twice.
"""

import json
import time
from pathlib import Path

from tensorboardX import SummaryWriter

from pipelines.checkpoints.files import METRICS
from pipelines.students.training.sinks import TERMS, Line, Sink

FLUSH_S = 5
GROUPS = {"loss": "loss/total", **{term: f"loss/{term}" for term in TERMS}}
NOT_SHOWN = {"step", "epoch"}


class EventFiles(Sink):
    """The figures of each step as TensorBoard shows them, some seconds later."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        self._writer = _written(self._folder, _lines(resume_from / METRICS) if resume_from else [])

    def step(self, line: Line) -> None:
        _add(self._writer, line, time.time())

    def end(self) -> None:
        self._writer.close()


def write_events(folder: Path, metrics: Path) -> None:
    """The folder's event files anew, from all lines of a metrics.jsonl."""
    _written(folder, _lines(metrics)).close()


def _written(folder: Path, lines: list[Line]) -> SummaryWriter:
    """A writer behind these lines, which end now and lie apart as long as their steps took."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = SummaryWriter(str(folder), flush_secs=FLUSH_S)
    began = time.time() - (lines[-1].get("seconds", 0.0) if lines else 0.0)
    for line in lines:
        _add(writer, line, began + line.get("seconds", 0.0))
    writer.flush()
    return writer


def _add(writer: SummaryWriter, line: Line, at: float) -> None:
    for name, value in line.items():
        if name not in NOT_SHOWN and isinstance(value, int | float):
            writer.add_scalar(_tag(name), value, line["step"], walltime=at)


def _tag(name: str) -> str:
    """TensorBoard groups charts by what stands before the stroke."""
    if name.startswith("dev_"):
        return f"dev/{name.removeprefix('dev_')}"
    return GROUPS.get(name) or f"{'speed' if name.endswith(('_per_s', 'seconds')) else 'training'}/{name}"


def _lines(metrics: Path) -> list[Line]:
    return [json.loads(line) for line in metrics.read_text().splitlines()]
