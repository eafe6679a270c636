"""What the watch tells of chunks that get nowhere; that actors which keep dying end a run is test_commits.py's."""

import time

import pytest

from pipelines.storage import QueryRange
from pipelines.streaming import watch as watching
from pipelines.streaming.watch import MAX_ATTEMPTS, MAX_STARTS, Watch

FIRST, SECOND = QueryRange("000", "7ffg"), QueryRange("800", "g")


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setattr(watching, "SILENT_S", 0.02)
    return Watch()


def test_a_chunk_that_takes_long_is_named_once_a_while_and_one_that_ended_is_not(watch):
    assert watch.began(FIRST, "process 1 on here", False) == ""
    assert watch.began(SECOND, "process 2 on there", True) == ""
    watch.made(FIRST)
    watch.ended(FIRST)
    time.sleep(0.1)

    (line,) = watch.silent()
    assert "from 800 to g is with process 2 on there" in line
    assert "teacher" not in line
    assert watch.silent() == []
    time.sleep(0.03)
    assert watch.silent() == [line]


def test_where_chunks_take_long_more_is_waited(watch):
    watch.began(FIRST, "process 1 on here", False)
    time.sleep(0.05)
    watch.ended(FIRST)
    watch.began(SECOND, "process 1 on here", True)
    time.sleep(0.1)
    assert watch.silent() == []


def test_that_nobody_works_is_told(watch):
    time.sleep(0.03)
    (line,) = watch.silent()
    assert "no actor has had a chunk" in line


def test_it_counts_deaths_of_a_chunk_alone_and_those_at_start_apart(watch):
    starts = [watch.began(FIRST, f"process {number}", False) for number in range(MAX_STARTS + 1)]
    assert [bool(why) for why in starts] == [False] * MAX_STARTS + [True]

    attempts = []
    for number in range(MAX_ATTEMPTS + 1):
        attempts.append(watch.began(SECOND, f"process {number}", False))
        watch.made(SECOND)
    assert [bool(why) for why in attempts] == [False] * MAX_ATTEMPTS + [True]
    assert "over the chunk of query ids from 800 to g" in attempts[-1]
