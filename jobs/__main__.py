"""`python -m jobs COMMAND`: parse, call one stage, print its version on stdout; everything else goes to stderr.

Exit codes: 0 done; 1 failed, running again may help; 2 wrong usage or refused, running again won't; 3 interrupted,
the same command goes on from the last commit or checkpoint; 4 `reproduce` differs.
"""

import os
import re
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import typer

from jobs import (
    curate,
    diff,
    distill,
    evaluate,
    history,
    ingest,
    mine,
    models,
    publish,
    query,
    reproduce,
    run,
    score,
    submit,
)
from pipelines.stage.errors import UserError

app = typer.Typer(
    help="Distil a small retrieval model from triplets: every row and every model traced to its table version.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS = (
    ingest, mine, score, curate, distill, evaluate, publish,
    run, reproduce, history, diff, query, models, submit,
)  # fmt: skip
TAKES_MANY = ("--input", "--beir")
for command in COMMANDS:
    app.command(command.__name__.rpartition(".")[2], help=command.__doc__)(command.main)


class Interrupted(BaseException):
    """SIGINT or SIGTERM; not a KeyboardInterrupt, which typer would turn into an exit code of its own."""

    received = False  # raised inside compiled code (ray.get), it comes out as another exception


def main() -> int:
    """Run the command of sys.argv; returns the exit code."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # the stages tell their own progress
    Interrupted.received = False
    sys.argv[1:] = one_option_each(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app(prog_name="python -m jobs")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except BaseException as error:
        return _told(error)
    return 0


def _told(error: BaseException) -> int:
    """Say on stderr why the command stopped; returns its exit code."""
    if Interrupted.received:
        print("interrupted; the same command goes on from the last commit or checkpoint", file=sys.stderr)
        return 3
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


def one_option_each(arguments: list[str]) -> list[str]:
    """`--input A B` as `--input A --input B`: what a shell makes of `--input *.parquet` is understood too."""
    expanded: list[str] = []
    option = ""
    for argument in arguments:
        if argument.startswith("-"):
            option = argument
        elif option in TAKES_MANY and expanded[-1] != option:
            expanded.append(option)
        expanded.append(argument)
    return expanded


def _one_line(error: Exception) -> str:
    """A message on one line without colours, whatever library it comes from."""
    return " ".join(re.sub(r"\x1b\[\d+m", "", str(error)).split())


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    Interrupted.received = True
    raise Interrupted


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
