"""`python -m jobs COMMAND`: parse, call one stage, print its version on stdout; everything else goes to stderr.

Exit codes: 0 done; 1 failed, running again may help; 2 wrong usage or refused, running again won't; 3 interrupted,
the same command goes on from the last commit or checkpoint; 4 `reproduce` differs; 141 nobody reads stdout any more.
"""

import errno
import io
import os
import re
import select
import signal
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from cyclopts import App, CycloptsError, Parameter
from cyclopts.help import PlainFormatter

from jobs.cluster import read_at_import
from jobs.usage import completed, explained, jobs_command, own_root, say
from pipelines.stage import hints
from pipelines.stage.cpu_libraries import CPU_LIBRARIES
from pipelines.stage.errors import UserError
from pipelines.stage.terminal import Terminal

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

COMMANDS = (
    "ingest", "generate", "mine", "score", "relabel", "curate", "distill", "evaluate", "publish",
    "run", "study", "reproduce", "history", "diff", "sources", "query", "models", "report",
    "tag", "compact", "vacuum", "erase", "bench", "check", "submit",
)  # fmt: skip


NO_TEXT = re.compile("[\0\ud800-\udfff]")  # what of a word of the command line was not UTF-8 became surrogates
NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)
RAISED_AGAIN_S = 0.05
NOBODY_READS = 141  # as shells say it of a program that SIGPIPE ended


class Interrupted(BaseException):
    """SIGINT or SIGTERM; not a KeyboardInterrupt, which cyclopts would turn into an exit code of its own."""

    received = False  # raised inside compiled code (ray.get), it comes out as another exception


class PlainHelp(PlainFormatter):
    """Help as plain text: one line per command or option, in two columns."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        rows = [(" ".join(entry.display_labels_with_metavar), _explained(entry)) for entry in panel.entries]
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"{panel.title}:", *(f"  {name:<{width}}  {text}" for name, text in rows), ""]
        if rows:
            console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _explained(entry: "HelpEntry") -> str:
    notes = [
        f"[env var: {', '.join(entry.env_var)}]" if entry.env_var else "",
        f"[default: {entry.default}]" if entry.default else "",
        "[required]" if entry.required else "",
    ]
    return " ".join(filter(None, [str(entry.description.primary_renderable), *notes]))


app = App(
    name="python -m jobs",
    help="Distil a small retrieval model from triplets: every row and every model traced to its table version.",
    help_flags="--help",
    help_format="plaintext",
    help_formatter=PlainHelp(),
    version_flags=(),
    group_parameters="Options",
    default_parameter=Parameter(negative=(), allow_repeating=True, show_default=lambda value: value or None),
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
)
for number, command in enumerate(COMMANDS):
    module = import_module(f"jobs.{command}")
    app.command(module.main, name=command, help=module.__doc__, sort_key=number)


def main() -> int:
    """Run the command of sys.argv; returns the exit code."""
    for name, value in {**read_at_import(), **CPU_LIBRARIES, "TQDM_DISABLE": "1"}.items():  # stages tell their progress
        os.environ.setdefault(name, value)
    Interrupted.received = False
    hints.completed = lambda line: completed(line, app)[0]
    sys.stdout, sys.stderr = _writable(sys.stdout), Terminal.of(_writable(sys.stderr))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _interrupt)
    sys.unraisablehook = _unraisable
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
        return code
    except BaseException as error:
        try:
            return _told(error)
        except Interrupted as interruption:  # while a damaged file was looked for
            return _told(interruption)
    finally:
        hints.completed = str


def _writable(stream: TextIO | None) -> TextIO:
    """The stream, or one that leads nowhere where it was closed; what its encoding lacks is written as \\uXXXX."""
    if stream is None:
        return open(os.devnull, "w")  # noqa: PTH123 - as long as the process lives
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _run(words: list[str]) -> int:
    for word in (*words, os.environ.get("TABLES", "")):
        if NO_TEXT.search(word):
            raise UserError(f"{word!r} is no text: it holds a NUL or bytes that are not UTF-8; expected UTF-8")
    if words:
        return app(words) or 0
    app.help_print([], console=app.error_console)
    return 2


def _told(error: BaseException) -> int:
    """Say on stderr why the command stopped, and what helps; returns its exit code."""
    if isinstance(sys.stderr, Terminal):
        sys.stderr.show("")
    if Interrupted.received:
        same = "interrupted; the same command goes on from the last commit or checkpoint"
        command = sys.argv[1] if sys.argv[1:] else ""
        told = getattr(sys.modules.get(f"jobs.{command}"), "INTERRUPTED", same)
        say(told.removeprefix("interrupted; "), jobs_command(sys.argv[1:]), prefix="interrupted;")
        return 3
    if isinstance(error, CycloptsError):
        chain = tuple(error.command_chain or ())
        helping = jobs_command([*chain, "--help"])
        print(f"Usage: {' '.join([*app.name, *chain])} {'[OPTIONS]' if chain else 'COMMAND'}", file=sys.stderr)
        say(f"{_one_line(explained(error, app))}; see `{helping}`", helping, prefix="Error:")
        return 2
    if isinstance(error, UserError):
        message, command = completed(_one_line(error), app)
        say(message, command or jobs_command([*sys.argv[1:2], "--help"]))
        return 2
    if isinstance(error, BrokenPipeError) and not _is_read(sys.stdout):
        sys.stdout = _writable(None)
        return NOBODY_READS
    if isinstance(error, OSError) and error.errno in NO_PATH:
        say(f"{_one_line(error)}; expected a path that can be: check its options")
        return 2
    if isinstance(error, OSError):
        told = "what was committed stays; once this is mended, the same command may be run again"
        say(f"{_one_line(error)}; {told}", jobs_command(sys.argv[1:]))
        return 1
    if found := _damage(error):
        say(f"{found}, or use another root")
        return 2
    traceback.print_exception(error)
    say("this is not your input's fault; the same command may be run again", jobs_command(sys.argv[1:]))
    return 1


def _damage(error: BaseException) -> str | None:
    """Which data files are damaged, where a reader of tables may have stumbled over one."""
    if "polars" not in sys.modules:
        return None
    from pipelines.storage.damage import find_damage, is_damage

    root, _ = own_root(app)
    if root is None or not is_damage(error):
        return None
    say(f"{_one_line(error)}; looking for it", prefix="a data file cannot be read:")
    return find_damage(root.open())


def _is_read(stream: TextIO) -> bool:
    """Whether the pipe that a stream leads to has a reader yet."""
    pipe = select.poll()
    pipe.register(stream, 0)
    return not any(event & select.POLLERR for _, event in pipe.poll(0))


def _one_line(error: object) -> str:
    """A message on one line without colours, whatever library it comes from, and no word without end."""
    text = re.sub(r"\s*[\r\n]\s*", " ", re.sub(r"\x1b\[\d+m", "", str(error)).strip())
    return re.sub(r"(\S{400})\S{100,}", r"\1…", text)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    Interrupted.received = True
    raise Interrupted


def _unraisable(ignored: "sys.UnraisableHookArgs") -> None:
    """Raise an interruption again that came in a destructor or a weakref callback, where Python ignores exceptions."""
    if ignored.exc_type is Interrupted:
        signal.setitimer(signal.ITIMER_REAL, RAISED_AGAIN_S)
    else:
        sys.__unraisablehook__(ignored)


def _leave(code: int) -> NoReturn:
    """Exit without running destructors: deltalake beside pyarrow was seen to abort there after all work was done.

    After an interruption Ray's own reaper ends a local cluster: a thread that still waits for it would end us with 1.
    """
    if "ray" in sys.modules and not Interrupted.received:
        sys.modules["ray"].shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # told already, or nobody is left to tell
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
