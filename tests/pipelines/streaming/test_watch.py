"""What the watch tells of chunks that get nowhere; that actors which keep dying end a run is test_commits.py's."""

import pytest

from pipelines.storage import QueryRange
from pipelines.streaming import watch as watching
from pipelines.streaming.watch import CLOSED, MAX_ATTEMPTS, MAX_FRESH, SILENT_S, Watch

FIRST, SECOND = QueryRange("000", "7ffg"), QueryRange("800", "g")


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(watching, "monotonic", clock)
    return clock


@pytest.fixture
def watch(clock):
    return Watch("query_id")


def test_a_chunk_that_takes_long_is_named_once_a_while_and_one_that_ended_is_not(watch, clock):
    assert watch.began(FIRST, "process 1 on here", True) == ""
    assert watch.began(SECOND, "process 2 on there", False) == ""
    clock.now = 5
    watch.ended(FIRST, "process 1 on here")
    assert watch.silent() == []
    clock.now = SILENT_S

    (line,) = watch.silent()
    assert "the chunk of query_id 800 to g was begun 10 min ago by process 2 on there" in line
    assert watch.silent() == []
    clock.now = 2 * SILENT_S
    assert "20 min ago" in watch.silent()[0]


def test_where_chunks_take_long_more_is_waited(watch, clock):
    watch.began(FIRST, "process 1 on here", True)
    clock.now = SILENT_S
    watch.ended(FIRST, "process 1 on here")
    watch.began(SECOND, "process 1 on here", False)
    clock.now = 5 * SILENT_S
    assert watch.silent() == []
    clock.now = 6 * SILENT_S
    assert len(watch.silent()) == 1


def test_that_nobody_works_is_told(watch, clock):
    clock.now = SILENT_S
    assert "no actor has had a chunk for 10 min" in watch.silent()[0]


def test_three_processes_that_die_with_their_first_chunk_end_the_run_and_five_of_any_kind(watch):
    fresh = [watch.began(FIRST, f"process {number}", True) for number in range(MAX_FRESH + 1)]
    assert [bool(why) for why in fresh] == [False] * MAX_FRESH + [True]
    assert "died 3 times" in fresh[-1]
    assert "process 0, process 1, process 2" in fresh[-1]

    mixed = [watch.began(SECOND, f"process {number}", number % 2 == 0) for number in range(MAX_ATTEMPTS + 1)]
    assert [bool(why) for why in mixed] == [False] * MAX_ATTEMPTS + [True]


def test_what_a_dead_process_says_late_is_passed_over(watch):
    watch.began(FIRST, "process 1", False)
    watch.began(FIRST, "process 2", False)
    watch.ended(FIRST, "process 1")
    watch.ended(SECOND, "process 1")
    assert [watch.began(FIRST, "process 3", False) for _ in range(3)] == ["", "", ""]
    assert watch.began(FIRST, "process 4", False)


def test_once_it_is_closed_nothing_is_begun(watch):
    watch.began(FIRST, "process 1", False)
    assert watch.close() == {FIRST}
    assert watch.is_closed()
    assert watch.began(SECOND, "process 1", False) == CLOSED
