"""What the sinks write of a training: each step's line once, and how far it is."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipelines.checkpoints.run_folder import METRICS
from pipelines.stage.errors import UserError
from pipelines.students.place import Place
from pipelines.students.training.sinks import (
    NAMED,
    Guarded,
    MetricsFile,
    ProgressLines,
    Sink,
    Training,
    find_sink,
    lines_so_far,
)


def line(step: int, **more: float) -> dict[str, float]:
    return {"step": step, "loss": 0.5, "queries": 30, "seconds": 2.0 * (step + 1), **more}


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


def take(sink, steps, clock, seconds, **terms):
    """Steps of so many seconds each."""
    for step in steps:
        sink.step(line(step, **terms))
        clock[0] += seconds


def test_progress_is_told_every_few_seconds_and_at_the_end_at_the_speed_since_the_first_step(clock):
    printed = []
    sink = ProgressLines(printed.append)
    sink.start(0, 6, resume_from=None)
    take(sink, range(6), clock, seconds=2)

    assert printed == [
        "distill: step 2 of 6, 15 queries/s, 0:08 min to go, loss 0.5",
        "distill: step 5 of 6, 15 queries/s, 0:02 min to go, loss 0.5",
        "distill: step 6 of 6, 15 queries/s, 0:00 min to go, loss 0.5",
    ]


TWO = {"margin_mse": 0.04123, "info_nce": 1.19}
THREE = TWO | {"vectors": 0.3141}


@pytest.mark.parametrize(
    ("num_steps", "terms", "end"),
    [
        (6, {"vectors": 0.5}, "loss 0.5"),
        (6, TWO, "loss 0.5 (margin_mse 0.0412, info_nce 1.19)"),
        (60_000, THREE, "loss 0.5 (margin_mse 0.0412, info_nce 1.19, vectors 0.314)"),
    ],
)
def test_progress_tells_every_term_whole_since_only_a_terminal_has_an_end(clock, num_steps, terms, end):
    printed = []
    sink = ProgressLines(printed.append)
    sink.start(0, num_steps, resume_from=None)
    take(sink, range(2), clock, seconds=6, **terms)

    assert printed[0].endswith(f" to go, {end}")


def test_progress_says_which_checkpoint_is_written(clock, tmp_path):
    printed = []
    sink = ProgressLines(printed.append)
    sink.start(0, 6, resume_from=None)
    take(sink, range(3), clock, seconds=6)
    sink.save(tmp_path)
    take(sink, range(3, 6), clock, seconds=6)

    assert printed[1].endswith("loss 0.5")
    assert printed[2].endswith("loss 0.5; step 3 is written")


def test_a_dev_evaluation_is_told_with_the_best_so_far_and_its_share_of_the_time(clock):
    printed = []
    sink = ProgressLines(printed.append)
    sink.start(0, 6, resume_from=None)
    sink.step(line(0, dev_ndcg_at_10=0.51234, dev_steps_since_best=0, dev_seconds=0.5))
    sink.step(line(1, dev_ndcg_at_10=0.5, dev_steps_since_best=1, dev_seconds=1.0))

    assert [one for one in printed if "nDCG" in one] == [
        "distill: dev nDCG@10 0.5123 after step 1, the best so far; 20% of the time",
        "distill: dev nDCG@10 0.5000 after step 2, the best was 1 steps before; 20% of the time",
    ]


def test_a_run_that_goes_on_says_so(clock, tmp_path):
    printed = []

    ProgressLines(printed.append).start(1_200, 5_000, resume_from=tmp_path)

    assert printed == ["distill: goes on after step 1,200 of 5,000, the last checkpoint"]


USERS_OWN = """
from pathlib import Path
from pipelines.students.training.sinks import Sink

class Heard(Sink):
    def __init__(self, training):
        self.file = Path(training.config["heard"])
    def step(self, line):
        with self.file.open("a") as file:
            print(line["step"], file=file)

class Failing(Heard):
    def step(self, line):
        super().step(line)
        raise RuntimeError("the server is gone")

NOT_ONE = 1
"""


@pytest.fixture
def users_own(tmp_path, monkeypatch):
    """A module of the user's own with sinks; gives what they are told of the training."""
    (tmp_path / "users_own.py").write_text(USERS_OWN)
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    return Training("small", {"heard": str(tmp_path / "heard")})


@pytest.mark.parametrize(("name", "heard"), [("Heard", ["0", "1"]), ("Failing", ["0"])])
def test_a_users_own_sink_is_named_and_one_that_fails_is_left_out_once(users_own, name, heard):
    printed = []
    sink = Guarded(f"the sink {name}", lambda: find_sink(f"users_own:{name}")(users_own), printed.append)
    sink.start(0, 2, resume_from=None)
    for step in range(2):
        sink.step(line(step))
    sink.end()

    told = f"distill: the sink {name} failed and is left out from here on (RuntimeError: the server is gone)"
    assert printed == ([told] if name == "Failing" else [])
    assert Path(users_own.config["heard"]).read_text().split() == heard


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlfow", "distill.sink is 'mlfow'; expected mlflow, wandb, or module:Class"),
        ("no.such:Class", "cannot be imported .ModuleNotFoundError: No module named 'no'.*PYTHONPATH"),
        ("users_own:Other", "cannot be imported .AttributeError"),
        (
            "users_own:NOT_ONE",
            "which is no sink; expected mlflow, wandb, or module:Class, a subclass of .*Sink",
        ),
        ("broken:Sink", "cannot be imported .ZeroDivisionError: division by zero"),
    ],
)
def test_a_sink_that_is_none_is_refused(users_own, name, message):
    with pytest.raises(UserError, match=message):
        find_sink(name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is not None, reason=f"{name} is installed"))
        for name in NAMED
    ],
)
def test_a_sink_whose_package_is_not_installed_is_refused(name):
    with pytest.raises(UserError, match=f"'{name}', which is not installed: pip install {name}"):
        find_sink(name)


class Dying(Sink):
    """Fails at the second step, and keeps a file."""

    def step(self, line):
        if line["step"]:
            raise ConnectionError("the server is gone")

    def save(self, checkpoint):
        (checkpoint / "kept").touch()

    def end(self):
        raise AssertionError("it hears no more")


def test_a_sink_that_failed_still_keeps_what_a_resumed_training_needs_and_hears_no_more(tmp_path):
    told = []
    sink = Guarded("Dying", Dying, told.append)
    sink.start(0, 3, resume_from=None)
    for step in range(3):
        sink.step(line(step))
    sink.save(tmp_path)
    sink.finish(lambda folder: None)
    sink.end()

    assert (tmp_path / "kept").exists()
    assert told == ["distill: Dying failed and is left out from here on (ConnectionError: the server is gone)"]


def test_what_a_sink_cannot_save_is_told_once(tmp_path):
    told = []
    sink = Guarded("Dying", Dying, told.append)
    sink.start(0, 3, resume_from=None)
    for _ in range(3):
        sink.save(tmp_path / "no such folder")

    assert len(told) == 1


def test_lines_so_far_end_now_and_lie_as_far_apart_as_their_steps_took(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_000.0)
    (tmp_path / METRICS).write_text("".join(json.dumps(line(step)) + "\n" for step in range(3)))

    assert [(told["step"], at) for told, at in lines_so_far(tmp_path)] == [(0, 996.0), (1, 998.0), (2, 1_000.0)]
    assert lines_so_far(None) == []


def test_of_several_stages_each_has_names_of_its_own():
    alone, second = Training("small", {"epochs": 1}), Training("small", {}, place=Place("scores", 2, 3))

    assert alone.labelled({"epochs": 1}) == {"epochs": 1}
    assert second.labelled({"epochs": 1}) == {"scores.epochs": 1}
    assert (alone.place.is_last, second.place.is_last) == (True, False)


def test_a_sink_does_nothing_unless_it_needs_to(tmp_path):
    sink = Sink()
    sink.check()
    sink.start(0, 1, None)
    sink.step(line(0))
    sink.save(tmp_path)
    sink.finish(lambda folder: folder.mkdir())
    sink.end()

    assert list(tmp_path.iterdir()) == []
