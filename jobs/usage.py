"""What is said of a command that failed: the parser's errors in our words, and the command that helps.

A message holds that command, best in backticks: `python -m jobs score`. The user's own root and recipe are added to it.
On a terminal it stands below the message as well, ready to be copied.
"""

import difflib
import os
import re
import shlex
import sys
from typing import Any, Literal, get_args, get_origin

from cyclopts import App, Argument, CycloptsError
from cyclopts.exceptions import CoercionError, MissingArgumentError, UnusedCliTokensError

from jobs.options import DEFAULT_RECIPE
from pipelines.stage.printable import printable
from pipelines.stage.terminal import console

HELPING = re.compile(  # a ` in quotes is of a name
    r"""`python -m jobs ((?:'[^']*'|"[^"]*"|[^`'"])+)`|\bpython -m jobs ([^`;,('"]*[^`;,('"\s])"""
)
KINDS = {float: "a number", int: "a whole number", bool: "true or false, or nothing after it"}


def say(message: str, command: str = "", prefix: str = "error:", style: str = "red") -> None:
    """An error, or what the prefix calls it, on stderr; on a terminal the command that helps stands below.

    A library's error may quote the data, of which nothing may act on the terminal.
    """
    console(sys.stderr).print(prefix, style=style, end=" ")
    print(printable(message), file=sys.stderr)
    if command and sys.stderr.isatty():
        console(sys.stderr).print(f"\n  {command}", style="cyan")


def completed(message: str, app: App) -> tuple[str, str]:
    """The message with the user's own options in its commands, and the last of these; "" if it has none."""
    commands = [""]

    def complete(found: re.Match[str]) -> str:
        commands.append(with_own_options(shlex.split(found[1] or found[2]), app))
        return f"`{commands[-1]}`"

    return HELPING.sub(complete, message), commands[-1]


def with_own_options(words: list[str], app: App) -> str:
    """The command with the root, recipe and overrides of this process's own, as far as it takes them.

    What it needs beside is named as in its help: --input INPUT. So is a recipe, where this process was told none.
    """
    own, arguments = own_root(app)
    recipe = str(arguments.get("recipe") or getattr(own, "recipe", "RECIPE"))
    given: dict[str, list[str]] = {
        "--tables": [own.tables] if own and own.tables != os.environ.get("TABLES") else [],
        "--recipe": [recipe] if recipe != DEFAULT_RECIPE else [],
        "--set": getattr(own, "set_", None) or [],
    }
    for one in _arguments(app[words[0]]) if words[0] in app else ():
        name = one.name
        needed = [name.lstrip("-").upper()] if one.required and name.startswith("--") else []
        if name not in words:
            words = [*words, *(word for value in given.get(name, needed) for word in (name, value))]
    return jobs_command(words)


def own_root(app: App) -> tuple[Any, dict[str, Any]]:
    """This process's RootOptions, None where its command takes none, and all arguments beside them."""
    _, bound, _ = app.parse_args(sys.argv[1:])
    return bound.arguments.get("stage") or bound.arguments.get("root"), bound.arguments


def jobs_command(words: list[str]) -> str:
    """A command of ours as a shell takes it."""
    return " ".join(map(_quoted, ["python", "-m", "jobs", *words]))


def _quoted(word: str) -> str:
    """As shlex.quote, but SQL, with its single quotes, stays readable between double ones."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def explained(error: CycloptsError, app: App) -> str:
    """The parser's error: what was found, what was expected."""
    if not error.command_chain:
        return _no_command((error.unused_tokens or [""])[0], list(app))
    name, command = error.command_chain[0], app[error.command_chain[0]]
    options = _options(command)
    unknown = _unknown_option(error, options)
    if unknown:
        return f"{name} has no option {unknown}{_near(unknown, options)}; expected one of {', '.join(options)}"
    if isinstance(error, UnusedCliTokensError):
        extra = " ".join(error.unused_tokens or ())
        return f"{name} does not take {extra!r}; expected options alone, and a text with spaces in quotes"
    if error.argument is None:
        return " ".join(str(error).split())
    return _of_value(error, error.argument)


def _of_value(error: CycloptsError, argument: Argument) -> str:
    """A value that is missing or of another kind."""
    keyword, meant = getattr(error, "keyword", None), argument.parameter.help
    if isinstance(error, CoercionError) and error.token:
        wanted = argument.hint if error.target_type is None else error.target_type
        return f"{argument.name} is {error.token.value!r}; expected {_kind(wanted)} ({meant})"
    if keyword is None and isinstance(error, MissingArgumentError):
        return f"{argument.name} is missing; expected {argument.name.lstrip('-').upper()}: {meant}"
    after = (error.unused_tokens or [""])[-1:]
    hyphen = f", or {keyword}={after[0]} if that is the value" if after != [keyword] and after[0][:1] == "-" else ""
    return f"{keyword} has no value; expected {meant}{hyphen}"


def _kind(wanted: Any) -> str:
    if get_origin(wanted) is Literal:
        return f"one of {', '.join(map(str, get_args(wanted)))}"
    return KINDS.get(wanted, str(wanted))


def _no_command(word: str, commands: list[str]) -> str:
    names = [name for name in commands if not name.startswith("-")]
    return f"there is no command {word!r}{_near(word, names)}; expected one of {', '.join(names)}"


def _unknown_option(error: CycloptsError, options: list[str]) -> str | None:
    """The first word that looks like an option and is none; the parser may have missed a required one before it."""
    token = getattr(error, "token", None)
    if isinstance(error, CoercionError) or getattr(error, "keyword", None):
        return None
    words = [token.keyword or token.value] if token else error.unused_tokens or []
    names = [word.partition("=")[0] for word in words]
    return next((name for name in names if name[:1] == "-" and name not in options), None)


def _near(word: str, known: list[str]) -> str:
    return "".join(f" (did you mean {name}?)" for name in difflib.get_close_matches(word, known, n=1))


def _options(command: App) -> list[str]:
    return [one.name for one in _arguments(command) if one.name.startswith("--")]


def _arguments(command: App) -> list[Argument]:
    return [one for one in command.assemble_argument_collection() if one.show]
