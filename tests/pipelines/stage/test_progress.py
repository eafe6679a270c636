"""Lines of progress at given times: what is told, when, and at which speed."""

import time

import pytest

from pipelines.stage.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until its one number is changed."""
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_line_says_how_much_how_fast_and_how_long_and_the_end_is_always_told(clock, capsys):
    progress = Progress("score", "rows", done=1_000, total=5_000)

    for units, seconds in [(1_000, 10), (200, 4), (800, 6), (2_000, 1)]:  # the rate begins after the first thousand
        progress.advance(units)
        clock[0] += seconds

    assert capsys.readouterr().err.splitlines() == [
        "score: 2,000 of 5,000 rows",
        "score: 2,200 of 5,000 rows, 20 rows/s, 2:20 min to go",
        "score: 5,000 of 5,000 rows, 150 rows/s, 0:00 min to go",
    ]
    assert progress.told() == "score: 5,000 of 5,000 rows"


def test_hours_to_go(clock, capsys):
    progress = Progress("mine", "queries", done=0, total=8_000)
    progress.advance(0)
    clock[0] += 10
    progress.advance(10)

    assert capsys.readouterr().err.splitlines()[-1] == "mine: 10 of 8,000 queries, 1 queries/s, 2:13 h to go"


def test_steps_are_rated_in_triplets_from_the_start_on_with_a_suffix(clock):
    lines = []
    progress = Progress("distill", "steps", done=1, total=90, said="{stage}: step {done:,} of {total:,}",
                        rated_in="triplets", tell=lines.append)  # fmt: skip
    progress.start()
    for _ in range(2):
        clock[0] += 4
        progress.advance(1, rated=64, suffix=", loss 1.5")

    assert lines == ["distill: step 2 of 90, 16 triplets/s, 5:52 min to go, loss 1.5"]
