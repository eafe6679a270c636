"""What a terminal can do that a log cannot: a width, colours, a pager, and a last line that is rewritten.

NO_COLOR, FORCE_COLOR, TERM=dumb, COLUMNS, LINES and PAGER are honoured; characters of double width (CJK) count as two.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich.cells import cell_len, chop_cells
from rich.console import Console

ERASE = "\r\x1b[2K"


def console(stream: TextIO) -> Console:
    """Rich's view of a stream; it prints text as it is, in colours where the stream and the user want them."""
    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)


def width_of(stream: TextIO) -> int | None:
    """Columns of a terminal; None for a log, a pipe or a file, where nothing has to fit."""
    if not stream.isatty():
        return None
    return _given("COLUMNS") or os.get_terminal_size(stream.fileno()).columns or 80


def height_of(stream: TextIO) -> int | None:
    """Lines of a terminal; None for a log, a pipe or a file."""
    if not stream.isatty():
        return None
    return _given("LINES") or os.get_terminal_size(stream.fileno()).lines or 24


def _given(variable: str) -> int:
    given = os.environ.get(variable, "")
    return int(given) if given.isdecimal() else 0


def print_paged(lines: Iterable[str], stream: TextIO) -> None:
    """Lines on a stream; on a terminal that they do not fit, through $PAGER, or less.

    PAGER=cat, a dumb terminal, a process in its background, and a machine without the pager have them printed as on
    any other stream; so has a pager that fails, which is said.
    """
    height = height_of(stream)
    command = [] if height is None or not _can_page(stream) else _pager()
    if height is None or not command or command == ["cat"] or not shutil.which(command[0]):
        for line in lines:
            print(line, file=stream)
        return
    text = "".join(f"{line}\n" for line in lines)
    if text.count("\n") < height:  # the prompt takes the last line
        stream.write(text)
        return
    stream.flush()
    encoded = text.encode(stream.encoding or "utf-8", "backslashreplace")
    try:
        with _left_as_it_was(stream):
            subprocess.run(
                command, input=encoded, stdout=stream.fileno(), env={"LESS": "FRX", **os.environ}, check=True
            )
    except (OSError, subprocess.CalledProcessError) as error:
        print(text, end="", file=stream, flush=True)
        print(f"the pager failed ({error}): printed without it; expected a command in PAGER", file=sys.stderr)


def _can_page(stream: TextIO) -> bool:
    """Whether a pager may act on this terminal: in its background the kernel would stop it, and this process too."""
    with suppress(OSError):  # a terminal that controls nobody here stops nobody
        if os.tcgetpgrp(stream.fileno()) != os.getpgrp():
            return False
    return not console(stream).is_dumb_terminal


def _pager() -> list[str]:
    given = os.environ.get("PAGER", "less")
    try:
        return shlex.split(given)
    except ValueError as error:
        print(f"PAGER={given} ({error}): printed without it; expected a command in PAGER", file=sys.stderr)
        return []


@contextmanager
def _left_as_it_was(stream: TextIO) -> Iterator[None]:
    """Ctrl-C is the pager's, which this process waits for; a pager that is killed cannot leave the terminal without
    echo."""
    as_it_was = termios.tcgetattr(stream.fileno())
    before = signal.signal(signal.SIGINT, lambda *_: None)  # SIG_IGN would be inherited
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        termios.tcsetattr(stream.fileno(), termios.TCSADRAIN, as_it_was)


def can_print(stream: TextIO, characters: str) -> bool:
    """Whether the stream's encoding has these characters."""
    try:
        characters.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def cut(text: str, width: int) -> str:
    """The text, on so many columns; an ellipsis says that there was more."""
    return text if cell_len(text) <= width else chop_cells(text, max(1, width - 1))[0] + "…"


def wrapped(text: str, width: int) -> list[str]:
    """The text's words on lines of so many columns; only a word that is longer is broken."""
    lines, room = list[str](), 0  # that the last line has left
    for word in text.split():
        columns = cell_len(word)
        if lines and columns < room:
            lines[-1] += f" {word}"
            room -= columns + 1
        else:
            lines += [word] if columns <= width else chop_cells(word, width)
            room = width - cell_len(lines[-1])
    return lines


class Terminal:
    """A terminal's stream whose last line can be rewritten: what is printed meanwhile, by whomever, stands above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = self._below = ""  # the line that stands there, or that waits for the end of another

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @classmethod
    def of(cls, stream: TextIO) -> TextIO:
        """The stream, with this around it if it is a terminal that can rewrite a line."""
        able = not isinstance(stream, cls) and stream.isatty() and not console(stream).is_dumb_terminal
        return cast(TextIO, cls(stream)) if able else stream

    def show(self, line: str) -> None:
        """Put the line in place of the last one; "" takes it away."""
        self._below = ""
        if line or self._shown:
            self._shown = cut(line, (width_of(self._stream) or 80) - 1)
            self._stream.write(f"{ERASE}{self._shown}\r" if line else ERASE)  # what comes past us begins at the left
            self._stream.flush()

    def write(self, text: str) -> int:
        line = self._shown or self._below
        self.show("")
        self._stream.write(text)
        if text.endswith("\n"):
            self.show(line)
        else:  # print() writes its newline by itself
            self._below = line
        return len(text)
