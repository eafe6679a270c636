"""A terminal of its own: what stands on it, to the letter."""

import io
import os
import sys

import pytest

from pipelines.stage.progress import Progress, tell
from pipelines.stage.terminal import ERASE, Terminal, can_print, console, cut, width_of
from tests.terminals import written_to


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 40 columns: its stream, and what reads what was written there since."""
    master, slave = os.openpty()
    stream = open(slave, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - a descriptor
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    yield Terminal.of(stream), lambda: written_to(master)
    stream.close()
    os.close(master)


def test_progress_rewrites_its_line_and_what_is_told_stands_above(terminal, monkeypatch):
    stream, written = terminal
    monkeypatch.setattr(sys, "stderr", stream)
    progress = Progress("score", "rows", done=0, total=30)
    progress.advance(10)
    assert written() == f"{ERASE}score: 10 of 30 rows\r"

    print("library.py:1: careful", file=sys.stderr)
    assert written() == f"{ERASE}library.py:1: careful\n{ERASE}score: 10 of 30 rows\r"
    progress.advance(20)
    assert written().startswith(f"{ERASE}score: 30 of 30 rows, ")
    tell("done")
    assert written() == "done\n"


def test_a_line_is_cut_to_the_width_where_wide_characters_count_twice(terminal):
    stream, written = terminal
    stream.show("文" * 40)

    assert written() == f"{ERASE}{'文' * 19}…\r"
    assert cut("文文文", 6) == "文文文"
    assert cut("文文文", 5) == "文文…"
    assert cut("abc", 3) == "abc"


def test_a_dumb_terminal_and_a_log_get_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = terminal[0]._stream

    assert Terminal.of(stream) is stream
    assert width_of(stream) == 40
    assert width_of(io.StringIO()) is None


@pytest.mark.parametrize(
    ("variable", "value", "has_colour"),
    [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False), ("NO_COLOR", "", True)],
)
def test_colours_follow_the_terminal_and_the_users_variables(terminal, monkeypatch, variable, value, has_colour):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(variable, value)
    stream, written = terminal

    console(stream).print("error", style="red")

    assert ("\x1b[31m" in written()) == has_colour


def test_force_color_colours_a_log(monkeypatch, capsys):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")

    console(sys.stdout).print("error", style="red")

    assert capsys.readouterr().out == "\x1b[31merror\x1b[0m\n"


def test_an_encoding_is_asked_before_bars_are_drawn():
    assert can_print(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), "█")
    assert not can_print(io.TextIOWrapper(io.BytesIO(), encoding="latin-1"), "█")
