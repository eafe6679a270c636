"""What the sinks write of a training: each step's line once, and how far it is."""

import json

import pytest

from pipelines.checkpoints.run_folder import METRICS
from pipelines.students.training.sinks import MetricsFile, ProgressLines


def line(step: int) -> dict[str, float]:
    return {"step": step, "loss": 0.5, "triplets": 30}


@pytest.fixture
def clock(monkeypatch):
    """A list whose only value is the time in seconds."""
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_metrics_of_a_run_that_went_on_have_each_step_once(tmp_path):
    killed, again, checkpoint = tmp_path / "killed", tmp_path / "again", tmp_path / "checkpoint"
    for folder in (killed, again, checkpoint):
        folder.mkdir()
    sink = MetricsFile(killed)
    sink.start(0, 4, resume_from=None)
    sink.step(line(0))
    sink.save(checkpoint)
    sink.step(line(1))
    sink.end()
    sink = MetricsFile(again)
    sink.start(1, 4, resume_from=checkpoint)
    sink.step(line(1))

    assert [json.loads(text)["step"] for text in (again / METRICS).read_text().splitlines()] == [0, 1]
    assert [json.loads(text)["step"] for text in (killed / METRICS).read_text().splitlines()] == [0, 1]
    sink.end()


def test_progress_is_told_every_few_seconds_and_at_the_end_at_the_speed_since_the_first_step(clock):
    printed = []
    sink = ProgressLines(printed.append)
    sink.start(0, 6, resume_from=None)
    for step in range(6):
        sink.step(line(step))
        clock[0] += 2

    assert printed == [
        "distill: step 2 of 6, loss 0.5, 15 triplets/s, 0:08 min to go",
        "distill: step 5 of 6, loss 0.5, 15 triplets/s, 0:02 min to go",
        "distill: step 6 of 6, loss 0.5, 15 triplets/s, 0:00 min to go",
    ]


def test_a_run_that_goes_on_says_so(clock, tmp_path):
    printed = []

    ProgressLines(printed.append).start(1_200, 5_000, resume_from=tmp_path)

    assert printed == ["distill: goes on after step 1,200 of 5,000, the last checkpoint"]
