"""Raw rows of any known layout in, checked texts or reasons out.

A layout says which columns hold the query, the positives and the negatives. It is told by their names, role by role:

    query      query | anchor
    positive   positive | pos | positive_passages
    negative   negative | neg | negative_passages, and negative_1 .. negative_n beside or instead of it
    source, external_id   by these names, where there is such a column

and `--columns role=name` tells it for any other. A positive or negative is a text, a {"title", "text"}, or a list of
either; title and text are joined by a space. A row is taken whole (each positive with each negative) or not at all:
one bad element is a reason against the row, and the reason names it, counted from 1: `negative_blank[3]`. Only an
absent or null negative_k is no reason, as long as one negative is there. Text is checked, never changed.

Reasons, each said of query, positive or negative: `_missing` (absent, null, no element), `_wrong_type`, `_blank`,
`_too_long`, `_has_lone_surrogate`; and `positive_equals_negative` (to a reader), `source_wrong_type`,
`external_id_wrong_type`. pipelines/intake/raw_rows.py names those of rows that cannot be read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import Field

from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.texts.comparison import is_blank, visible
from pipelines.texts.ids import encoding_error

KNOWN_NAMES = {
    "query": ("query", "anchor"),
    "positive": ("positive", "pos", "positive_passages"),
    "negative": ("negative", "neg", "negative_passages"),
    "source": ("source",),
    "external_id": ("external_id",),
}
NUMBERED_NEGATIVE = re.compile(r"negative_(\d+)")


class RowChecks(Config):
    """Which input rows are taken, and how many bad ones an input may have."""

    max_bad_share: float = Field(0.1, ge=0, le=1)
    """Largest share of quarantined rows in any one file; above it the whole input is refused and nothing is written."""

    max_text_chars: int = Field(1_000_000, ge=1)
    """A longer query, positive or negative quarantines its row."""

    keep_raw: bool = True
    """Keep up to 4 KB of each quarantined row as found; off where that may not be stored."""


class CheckedRow(NamedTuple):
    query: str
    positives: list[str]
    negatives: list[str]
    source: str | None
    external_id: str | None


@dataclass(frozen=True)
class Layout:
    """Which column plays which role; several negatives when they are numbered; none where pairs are read."""

    query: str
    positive: str
    negatives: tuple[str, ...]
    source: str | None = None
    external_id: str | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that are read, each once."""
        names = [self.query, self.positive, *self.negatives, self.source, self.external_id]
        return list(dict.fromkeys(name for name in names if name is not None))

    @cached_property
    def has_numbered_negatives(self) -> bool:
        return any(map(NUMBERED_NEGATIVE.fullmatch, self.negatives))

    def with_numbered_negatives(self, columns: Iterable[str]) -> "Layout":
        """The same layout and those of `columns` that are a further negative_k, where there is one already."""
        if not self.has_numbered_negatives:
            return self
        return replace(self, negatives=tuple(dict.fromkeys([*self.negatives, *_numbered(columns)])))


def tell_layout(
    path: str, columns: Iterable[str], named: Mapping[str, str], *, pairs: bool = False, own_source: bool = True
) -> Layout:
    """The layout of a file with these columns; `named` is --columns. With `pairs` negatives are not looked for.

    Without `own_source` a column is not the source by its name alone: the user gave one source for all rows.
    """
    columns = [name for name in columns if own_source or name != "source" or name in named.values()]
    check_named_columns(named)
    found = {role: name for role in KNOWN_NAMES if (name := _column_of(role, columns, named))}
    numbered = () if "negative" in named else _numbered(columns)
    negatives = () if pairs else (*filter(None, [found.get("negative")]), *numbered)
    absent = sorted(name for name in named.values() if name not in columns)
    missing = [role for role in ("query", "positive") if role not in found]
    missing += [] if pairs or negatives else ["negative"]
    if absent or missing:
        raise _unknown_layout(path, columns, absent, missing, pairs)
    return Layout(found["query"], found["positive"], negatives, found.get("source"), found.get("external_id"))


def check_named_columns(named: Mapping[str, str]) -> None:
    """Raise UserError where --columns names an unknown role or one column for two roles."""
    unknown = sorted(set(named) - set(KNOWN_NAMES))
    if unknown:
        raise UserError(
            f"--columns names {', '.join(unknown)}, expected role=column, a role being {', '.join(KNOWN_NAMES)}"
        )
    if len(set(named.values())) < len(named):
        shown = ",".join(f"{role}={name}" for role, name in named.items())
        raise UserError(f"--columns {shown} gives one column two roles, expected a column of its own for each")


def _column_of(role: str, columns: list[str], named: Mapping[str, str]) -> str | None:
    if role in named:
        return named[role]
    return next((name for name in KNOWN_NAMES[role] if name in columns and name not in named.values()), None)


def _numbered(columns: Iterable[str]) -> tuple[str, ...]:
    matches = sorted((int(match[1]), match[0]) for match in map(NUMBERED_NEGATIVE.fullmatch, columns) if match)
    return tuple(name for _, name in matches)


def _unknown_layout(path: str, columns: list[str], absent: list[str], missing: list[str], pairs: bool) -> UserError:
    found = ", ".join(ascii(name[:60]) if not name.isprintable() else name[:60] for name in columns[:30]) or "none"
    problem = f"no column {', '.join(absent)}" if absent else f"no column for {', '.join(missing)}"
    roles = ("query", "positive") if pairs else ("query", "positive", "negative")
    known = "; ".join(f"{role}: {' or '.join(KNOWN_NAMES[role])}" for role in roles)
    example = ",".join(f"{role}={name}" for role, name in zip(roles, ("q", "doc", "bad"), strict=False))
    if missing == ["negative"] and not absent:
        problem += " (`mine` takes pairs without negatives)"
    return UserError(
        f"{path} has {problem}; found the columns {found}; expected {known}{'' if pairs else ' or negative_1 ..'}: "
        f"tell which is which, e.g. --columns {example}, and if these are a row's values, put a header line above them"
    )


def check_row(value: Mapping[str, Any], layout: Layout, max_text_chars: int) -> CheckedRow | list[str]:
    """The row's texts, or every reason against it."""
    reasons: list[str] = []
    query: Any = value.get(layout.query)
    if problem := "missing" if query is None else text_problem(query, max_text_chars):
        reasons.append(f"query_{problem}")
    positives = _texts("positive", value.get(layout.positive), max_text_chars, reasons)
    negatives = _negatives(value, layout, max_text_chars, reasons)
    source = _label("source", layout.source, value, reasons)
    external_id = _label("external_id", layout.external_id, value, reasons)
    seen = {visible(positive) for _, positive in positives}
    reasons += [f"positive_equals_negative{where}" for where, text in negatives if visible(text) in seen]
    if reasons:
        return reasons
    return CheckedRow(query, [text for _, text in positives], [text for _, text in negatives], source, external_id)


def _negatives(
    value: Mapping[str, Any], layout: Layout, max_text_chars: int, reasons: list[str]
) -> list[tuple[str, str]]:
    before = len(reasons)
    texts: list[tuple[str, str]] = []
    for column in layout.negatives:
        if value.get(column) is not None:
            where = f"[{column.removeprefix('negative_')}]" if layout.has_numbered_negatives else ""
            texts += _texts("negative", value[column], max_text_chars, reasons, where)
    if layout.negatives and not texts and len(reasons) == before:
        reasons.append("negative_missing")
    return texts


def _texts(role: str, value: Any, max_text_chars: int, reasons: list[str], where: str = "") -> list[tuple[str, str]]:
    """(element's place, text) of each good text; the others become reasons."""
    if value is None or value == []:
        reasons.append(f"{role}_missing{where}")
        return []
    is_list = isinstance(value, list)
    texts: list[tuple[str, str]] = []
    for number, element in enumerate(value if is_list else [value], 1):
        place = f"{where}[{number}]" if is_list else where
        text = title_and_text(element) if isinstance(element, dict) else element
        if problem := text_problem(text, max_text_chars):
            reasons.append(f"{role}_{problem}{place}")
        else:
            texts.append((place, text))
    return texts


def title_and_text(passage: dict[str, Any]) -> Any:
    """Title and text of a passage joined by a space; not a text where one of them is none."""
    title, text = passage.get("title"), passage.get("text")
    if not isinstance(text, str) or not isinstance(title, str):
        return text if title is None else None
    return " ".join(part for part in (title, text) if not is_blank(part))


def text_problem(text: Any, max_text_chars: int) -> str | None:
    """What is wrong with a text, as the second half of a reason; None when it is good."""
    if not isinstance(text, str):
        return "wrong_type"
    if is_blank(text):
        return "blank"
    if len(text) > max_text_chars:
        return "too_long"
    return None if text.isascii() or not encoding_error(text) else "has_lone_surrogate"


def _label(role: str, column: str | None, value: Mapping[str, Any], reasons: list[str]) -> str | None:
    """A source or external_id: text, or a whole number written out; blank is as good as absent."""
    label = value.get(column) if column is not None else None
    if isinstance(label, int) and not isinstance(label, bool):
        return str(label)
    if label is None or (isinstance(label, str) and is_blank(label)):
        return None
    if not isinstance(label, str) or encoding_error(label):
        reasons.append(f"{role}_wrong_type")
        return None
    return label
