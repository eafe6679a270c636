"""A terminal of its own: what stands on it, to the letter."""

import io
import os
import re
import signal
import sys
import termios

import pytest

from pipelines.stage.progress import Progress, tell
from pipelines.stage.terminal import ERASE, Terminal, can_print, console, cut, print_paged, width_of, wrapped
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


def test_what_is_not_written_yet_is_shown_on_a_terminal_alone_and_changes_no_count(terminal, monkeypatch, capsys):
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setenv("COLUMNS", "100")
    progress = Progress("scored", "rows", done=0, total=100)
    monkeypatch.setattr(sys, "stderr", terminal[0])
    progress.show_unwritten(10)
    assert terminal[1]() == f"{ERASE}scored: 10 of 100 rows; 0 of them written\r"
    progress.advance(10)
    now[0] += 5
    progress.show_unwritten(20)
    terminal[1]()
    now[0] += 0.1
    progress.show_unwritten(25)
    assert terminal[1]() == ""  # too soon
    now[0] += 4.9
    progress.show_unwritten(40)
    assert terminal[1]() == f"{ERASE}scored: 50 of 100 rows, 4 rows/s, 0:12 min to go; 10 of them written\r"
    progress.advance(90)
    assert terminal[1]().endswith("scored: 100 of 100 rows, 9 rows/s, 0:00 min to go\n")

    monkeypatch.undo()
    progress.show_unwritten(5)
    assert (progress.done, capsys.readouterr().err) == (100, "")


def test_words_are_wrapped_by_columns_and_only_a_longer_one_is_broken():
    assert wrapped("a 文文 bcd  efghij", 6) == ["a 文文", "bcd", "efghij"]
    assert wrapped("ab 文文文文 c", 5) == ["ab", "文文", "文文", "c"]
    assert wrapped("", 5) == []


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


@pytest.fixture
def pager(tmp_path, monkeypatch):
    """A pager that keeps what it is given: its file, which is there as soon as it was called."""
    shown, script = tmp_path / "shown", tmp_path / "pager.sh"
    script.write_text(f'#!/bin/sh\n(echo "$1 $LESS"; cat) > "{shown}"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PAGER", f"{script} -x")
    monkeypatch.setenv("LINES", "5")
    monkeypatch.delenv("LESS", raising=False)
    return shown


FIVE = [f"line {number} 文" for number in range(5)]


def test_what_a_terminal_has_no_room_for_is_shown_by_the_pager(terminal, pager):
    stream, written = terminal
    print_paged(FIVE, stream._stream)

    assert pager.read_text() == "\n".join(["-x FRX", *FIVE, ""])
    assert written() == ""


def test_what_fits_and_what_is_no_terminals_is_printed(terminal, pager, capsys):
    stream, written = terminal
    print_paged(FIVE[:4], stream._stream)
    print_paged(FIVE, sys.stdout)

    assert written() == "\n".join([*FIVE[:4], ""])
    assert capsys.readouterr().out == "\n".join([*FIVE, ""])
    assert not pager.exists()


@pytest.mark.parametrize(
    ("variable", "value"), [("PAGER", "cat"), ("PAGER", ""), ("PAGER", "none_such"), ("TERM", "dumb")]
)
def test_a_pager_can_be_turned_off_or_be_missing(terminal, pager, monkeypatch, variable, value):
    stream, written = terminal
    monkeypatch.setenv(variable, value)
    print_paged(FIVE, stream._stream)

    assert written() == "\n".join([*FIVE, ""])
    assert not pager.exists()


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("less '", "PAGER=less ' .No closing quotation."),
        ("false", "'false'.* exit status 1"),
        ("{tmp}/no_program", "Exec format error|exit status 12[67]"),
    ],
)
def test_a_pager_that_fails_loses_nothing_and_is_told(terminal, pager, monkeypatch, capsys, tmp_path, command, why):
    (tmp_path / "no_program").write_bytes(b"\0\0")
    (tmp_path / "no_program").chmod(0o755)
    monkeypatch.setenv("PAGER", command.format(tmp=tmp_path))
    print_paged(FIVE, terminal[0]._stream)

    assert terminal[1]() == "\n".join([*FIVE, ""])
    assert re.search(f"{why}.*: printed without it; expected a command in PAGER", capsys.readouterr().err)


def test_a_pager_that_is_left_early_is_no_error(terminal, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setenv("PAGER", "true")
    monkeypatch.setenv("LINES", "5")
    print_paged(("x" * 1_000 for _ in range(1_000)), terminal[0]._stream)

    assert terminal[1]() == ""
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_pager_gets_ctrl_c_itself_and_leaves_the_terminal_as_it_was(terminal, monkeypatch):
    stream, written = terminal
    before = termios.tcgetattr(stream.fileno())
    monkeypatch.setenv("PAGER", "sh -c 'stty -echo -icanon <&1; grep SigIgn /proc/self/status; cat > /dev/null'")
    monkeypatch.setenv("LINES", "5")
    print_paged(FIVE, stream._stream)

    ignored = int(written().split()[1], 16)
    assert not ignored & 1 << (signal.SIGINT - 1)
    assert termios.tcgetattr(stream.fileno()) == before
