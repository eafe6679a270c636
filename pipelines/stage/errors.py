"""The one error a user can cause: what was found, what was expected, what to do; printed as it is."""

from collections.abc import Iterable


class UserError(ValueError):
    """Wrong usage or refused input: running the same command again will not help (exit code 2)."""


def first_of(names: Iterable[str], number: int = 10) -> str:
    """The first names of many, and how many more there are."""
    names = list(names)
    return ", ".join(names[:number]) + (f" and {len(names) - number} more" if len(names) > number else "")


def describe(error: BaseException) -> str:
    """An exception in one line, for a message or a table."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0][:300]}"
