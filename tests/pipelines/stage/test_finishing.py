"""The first SIGTERM is a request, the second what it always was."""

import signal
import threading

import pytest

from pipelines.stage.finishing import finishing


class Stopped(BaseException):
    """What the program makes of a SIGTERM."""


@pytest.fixture
def handler():
    def stop(number, frame):
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    yield stop
    signal.signal(signal.SIGTERM, before)


def test_what_is_under_way_is_finished_and_then_the_signal_does_what_it_did(handler):
    done = []

    def program():
        with finishing() as asked:
            signal.raise_signal(signal.SIGTERM)
            done.append(asked.is_set())

    with pytest.raises(Stopped):
        program()
    assert done == [True]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_the_second_one_stops_at_once(handler):
    done = []

    def program():
        with finishing():
            signal.raise_signal(signal.SIGTERM)
            done.append("first")
            signal.raise_signal(signal.SIGTERM)
            done.append("second")

    with pytest.raises(Stopped):
        program()
    assert done == ["first"]


def test_an_error_meanwhile_is_told_in_its_place(handler):
    def program():
        with finishing():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        program()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_without_a_signal_and_in_another_thread_nothing_changes(handler):
    with finishing() as asked:
        assert not asked.is_set()
    seen = []

    def elsewhere():
        with finishing():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [handler]


def test_a_program_without_a_handler_is_ended_as_ever():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with finishing():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
