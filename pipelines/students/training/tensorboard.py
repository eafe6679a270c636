"""TensorBoard's files of a training: always written, a function of metrics.jsonl.

    EventFiles     while it trains, where its folder can be seen
    write_events   metrics.jsonl -> the same, anew

A run that went on from a checkpoint, and one that ended, has them written anew from its metrics: no step stands twice.
"""

import time
from pathlib import Path

from tensorboardX import SummaryWriter

from pipelines.students.training.sinks import TERMS, Line, Sink, lines_so_far

FLUSH_S = 5
GROUPS = {"loss": "loss/total", **{term: f"loss/{term}" for term in TERMS}}
NOT_SHOWN = {"step", "epoch"}


class EventFiles(Sink):
    """The figures of each step as TensorBoard shows them, some seconds later."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, step: int, num_steps: int, resume_from: Path | None) -> None:
        self._writer = _written(self._folder, lines_so_far(resume_from))

    def step(self, line: Line) -> None:
        _add(self._writer, line, time.time())

    def end(self) -> None:
        self._writer.close()


def write_events(folder: Path, metrics: Path) -> None:
    """The folder's event files anew, from all lines of a metrics.jsonl."""
    _written(folder, lines_so_far(metrics.parent)).close()


def _written(folder: Path, lines: list[tuple[Line, float]]) -> SummaryWriter:
    """A writer behind these lines, each at its time."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = SummaryWriter(str(folder), flush_secs=FLUSH_S)
    for line, at in lines:
        _add(writer, line, at)
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
