"""`python -m jobs COMMAND`: parse, call one stage, print its version on stdout; everything else goes to stderr.

Exit codes: 0 done; 1 failed, running again may help; 2 wrong usage or refused, running again won't; 3 interrupted,
the same command goes on from the last commit or checkpoint; 4 `reproduce` differs.
"""

import os
import re
import signal
import sys
import traceback
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from cyclopts import App, CycloptsError, Parameter
from cyclopts.help import PlainFormatter

from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

COMMANDS = (
    "ingest", "mine", "score", "curate", "distill", "evaluate", "publish",
    "run", "reproduce", "history", "diff", "query", "models", "submit",
)  # fmt: skip


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
    os.environ.setdefault("TQDM_DISABLE", "1")  # the stages tell their own progress
    Interrupted.received = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        if sys.argv[1:]:
            return app(sys.argv[1:]) or 0
        app.help_print([], console=app.error_console)
        return 2
    except BaseException as error:
        return _told(error)


def _told(error: BaseException) -> int:
    """Say on stderr why the command stopped; returns its exit code."""
    if Interrupted.received:
        told = "interrupted; the same command goes on from the last commit or checkpoint"
        command = sys.argv[1] if sys.argv[1:] else ""
        print(getattr(sys.modules.get(f"jobs.{command}"), "INTERRUPTED", told), file=sys.stderr)
        return 3
    if isinstance(error, CycloptsError):
        command = " ".join([*app.name, *(error.command_chain or ())])
        print(f"Usage: {command} {'[OPTIONS]' if error.command_chain else 'COMMAND'}", file=sys.stderr)
        print(f"Try '{command} --help' for help.\n\nError: {error}", file=sys.stderr)
        return 2
    if isinstance(error, UserError):
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    if isinstance(error, OSError):
        told = "what was committed stays; once this is mended, the same command may be run again"
        print(f"error: {_one_line(error)}; {told}", file=sys.stderr)
        return 1
    traceback.print_exception(error)
    print("error: this is not your input's fault; the same command may be run again", file=sys.stderr)
    return 1


def _one_line(error: Exception) -> str:
    """A message on one line without colours, whatever library it comes from."""
    return " ".join(re.sub(r"\x1b\[\d+m", "", str(error)).split())


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    if "ray" in sys.modules and not Interrupted.received:
        _leave_stderr_to_python()
    Interrupted.received = True
    raise Interrupted


def _leave_stderr_to_python() -> None:
    """What Ray's compiled part says of its dying workers ("... retries remaining") is no news to who interrupted it."""
    ours = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = ours


def _leave(code: int) -> NoReturn:
    """Exit without running destructors: deltalake beside pyarrow was seen to abort there after all work was done.

    After an interruption Ray's own reaper ends a local cluster: a thread that still waits for it would end us with 1.
    """
    if "ray" in sys.modules and not Interrupted.received:
        sys.modules["ray"].shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
