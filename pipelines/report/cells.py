"""What the page is made of, beside pictures: numbers that can be found again, texts of the data, and tables of both.

A number's exact value stands in the page as `<data value="75789" data-figure="kept_rows">75,789</data>`; README.md
lists the names. A text of the data is marked as one, so that the template shows it as `hostile_text` wants.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Form = Literal["count", "share", "score", "signed", "decimal", "size"]


class Number(NamedTuple):
    """A value, by which name it is found in the page, and how it is written. None is written as nothing."""

    value: float | None
    figure: str = ""
    key: str = ""  # which of several of that name: a source, a reason, data set / system / dimension
    form: Form = "count"

    def __str__(self) -> str:
        return "" if self.value is None or self.value != self.value else written(self.value, self.form)


class Text(NamedTuple):
    """A text of the data: a source, a query, a model's name."""

    text: str
    chars: int | None = None  # of the whole, where `text` is cut already


class Code(NamedTuple):
    """A command or a name of ours."""

    text: str


class Made(NamedTuple):
    """A version, a model or a data set by its name: a link to the command that prints where it comes from."""

    text: str


class Command(NamedTuple):
    """A command to be copied whole, where the links to what it prints lead."""

    text: str
    prints: str


class Figures(NamedTuple):
    """Several numbers in one cell, on one line: an interval, a difference with its p-value."""

    text: str


Cell = Number | Text | Code | Made | Command | Figures | str


class Table(NamedTuple):
    """Rows under a caption; the first cell of each row is its heading."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    @classmethod
    def of(cls, caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], most: int, more: str) -> "Table":
        """The first rows, and a note of how many more there are of what."""
        every = list(rows)
        note = f"And {len(every) - most:,} more {more}." if len(every) > most else ""
        return cls(caption, columns, every[:most], note)


def written(value: float, form: Form) -> str:
    """A number as people read it."""
    if form == "count":
        return f"{value:,.0f}"
    if form == "share":
        return f"{value:.1%}"
    if form == "size":
        return f"{value / 1e6:,.1f} MB"
    if form == "decimal":
        return f"{value:,.2f}"
    return f"{value:+.3f}" if form == "signed" else f"{value:.3f}"
