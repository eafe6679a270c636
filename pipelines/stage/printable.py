"""A text of the data as a terminal may show it: nothing in it moves the cursor, colours, reorders or hides."""

import re


def printable(text: str, kept: str = "") -> str:
    """Control, format and invisible characters as \\uXXXX, but those that are kept; letters of any script stay."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in kept else escaped(one) for one in text)


def escaped(character: str) -> str:
    """As TOML, JSON (of the first 65,536) and Python write it."""
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """1 row, 2,000 rows, 0 queries."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def on_one_line(value: object) -> str:
    """Of any value, with one space where it has white space."""
    return printable(re.sub(r"\s+", " ", str(value)).strip())
