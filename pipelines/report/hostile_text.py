"""Texts of the data as a page may show them: cut, and with every character that hides or moves others made visible.

    pieces(text, limit)  -->  (plain text, or the name of one code point), ...

Escaping is the template's: it is on for every value. Here is what escaping leaves: control and format characters
(zero-width, right-to-left overrides, NUL), blanks that look like nothing, towers of combining marks.
"""

import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

CELL_CHARS = 280
NAME_CHARS = 48
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
BLANK = set("\u00ad\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # shown as nothing, though letters by category
VARIATION = {*map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0))}
SPACES = {"\t", "\n", "\r", "\u00a0"}
MOST_MARKS = 3  # combining marks on one letter: Vietnamese, Hebrew and Devanagari need no more


class Piece(NamedTuple):
    """A run of plain text, or one hidden character (or what was left out) by its name."""

    text: str
    is_code: bool = False


def pieces(text: str, limit: int = CELL_CHARS) -> Iterator[Piece]:
    """The first `limit` characters of a text, each hidden one as `U+202E`; what is cut is counted at the end."""
    plain, marks = "", 0
    for character in text[:limit]:
        marks = marks + 1 if unicodedata.category(character)[0] == "M" else 0
        if _is_shown(character) and marks <= MOST_MARKS:
            plain += " " if character in SPACES else character
        elif marks <= MOST_MARKS + 1:
            if plain:
                yield Piece(plain)
            plain = ""
            yield Piece(f"U+{ord(character):04X}" if not marks else "more marks", True)
    if plain:
        yield Piece(plain)
    if len(text) > limit:
        yield Piece(f"… {len(text) - limit:,} more characters", True)


def plain(text: str, limit: int = NAME_CHARS) -> str:
    """The same as one string, for pictures: hidden characters stand as `<U+202E>`, a cut text ends with `…`."""
    told = "".join(f"<{piece}>" if is_code else piece for piece, is_code in pieces(text[:limit], limit))
    return told[:limit] + "…" if max(len(told), len(text)) > limit else told


def _is_shown(character: str) -> bool:
    if character in SPACES:
        return True
    return unicodedata.category(character) not in HIDDEN and character not in BLANK and character not in VARIATION
