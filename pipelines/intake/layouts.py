"""Raw rows of any known layout in, checked texts or reasons out.

A layout says which columns hold the query, the positives and the negatives. It is told by their names, role by role:

    query      query | anchor
    positive   positive | pos | positive_passages
    negative   negative | neg | negative_passages, and negative_1 .. negative_n beside or instead of it
    source, external_id   by these names, where there is such a column
    label      label | relevance | grade .. , of pairs also score | similarity .. and what ends so, as human_score;
               `--columns label=none`: it is none

and `--columns role=name` tells it for any other. Of several such columns, and of the keys of JSON Lines, those of a
row that are not null tell its layout, so that what becomes of a row does not depend on the others.

A positive or negative is a text, a {"title", "text"}, or a list of either; title and text are joined by a space. A row
is taken whole (each positive with each negative) or not at all: one bad element is a reason against the row, and the
reason names it, counted from 1: `negative_blank[3]`. Only an absent or null negative_k is no reason, as long as one
negative is there. NaN is as good as null: so tables write a missing value. Text is checked, never changed.

A label of a pair is 0 or 1, also as text or bool: 0 makes it a known negative, and any other is a reason against the
row. Of a triplet a label only may not contradict the roles: 0, or a list that is not 1 for positives, 0 for negatives.

Reasons, each said of query, positive or negative: `_missing` (absent, null, no element), `_wrong_type`, `_blank`,
`_too_long`, `_has_lone_surrogate`; and `positive_equals_negative` (to a reader), `source_wrong_type`,
`external_id_wrong_type`, `label_missing`, `label_not_0_or_1`, `label_contradicts_roles`. pipelines/intake/raw_rows.py
names those of rows that cannot be read.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import Field

from pipelines.stage.config import Config
from pipelines.stage.errors import UserError, first_of
from pipelines.texts.comparison import is_blank, visible, visible_head
from pipelines.texts.ids import encoding_error

KNOWN_NAMES = {
    "query": ("query", "anchor"),
    "positive": ("positive", "pos", "positive_passages"),
    "negative": ("negative", "neg", "negative_passages"),
    "source": ("source",),
    "external_id": ("external_id",),
    "label": tuple("label labels gold_label relevant is_relevant relevance relevance_label grade".split())
    + tuple("is_positive is_duplicate is_match is_correct".split()),
}
SCORES = tuple("score scores similarity rating rel relevancy judgment judgement qrel match duplicate correct".split())
"""A label in pairs; beside triplets they are a teacher's, of whatever it was asked."""

NO_LABEL = ("label", "none")
MINERS_OWN = "miner_score"  # of our own triplets: what a negative was ranked by
_LABELS = {*KNOWN_NAMES["label"], *SCORES}
_BINARY = {1: True, 0: False, "1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}
ROLE_OF = {name: role for role, names in KNOWN_NAMES.items() for name in names if role != "label"}
NUMBERED_NEGATIVE = re.compile(r"negative_(\d+)")
ABSENT = "\0absent"  # no row has a column of this name
MAX_KEPT_LAYOUTS = 10_000


class RowChecks(Config):
    """Which input rows are taken, and how many bad ones an input may have."""

    max_bad_share: float = Field(0.1, ge=0, le=1)
    """Largest share of quarantined rows in any one file; above it the whole input is refused and nothing is written."""

    max_text_chars: int = Field(1_000_000, ge=1)
    """A longer query, positive or negative quarantines its row; with another limit a file is read again."""

    keep_raw: bool = True
    """Keep up to 4 KB of each quarantined row as found; off where that may not be stored."""

    def told(self) -> dict[str, Any]:
        """What decides which rows pass, where it is not the default: another way to read the same file."""
        default = RowChecks.model_fields["max_text_chars"].default
        return {} if self.max_text_chars == default else {"max_text_chars": self.max_text_chars}


class CheckedRow(NamedTuple):
    query: str
    positives: list[str]
    negatives: list[str]
    source: str | None
    external_id: str | None
    is_positive: bool = True  # False where a pair's label is 0: its positives are known negatives


@dataclass(frozen=True)
class Layout:
    """Which column plays which role; several negatives when they are numbered; none where pairs are read."""

    query: str
    positive: str
    negatives: tuple[str, ...]
    source: str | None = None
    external_id: str | None = None
    label: str | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that are read, each once."""
        names = [self.query, self.positive, *self.negatives, self.source, self.external_id, self.label]
        return list(dict.fromkeys(name for name in names if name is not None))

    @cached_property
    def has_numbered_negatives(self) -> bool:
        return any(map(NUMBERED_NEGATIVE.fullmatch, self.negatives))


def tell_layout(
    path: str, columns: Iterable[str], named: Mapping[str, str], *, pairs: bool = False, own_source: bool = True
) -> Layout:
    """The layout of a file with these columns; `named` is --columns. With `pairs` negatives are not looked for.

    Without `own_source` a column is not the source by its name alone: the user gave one source for all rows.
    """
    columns = list(columns)
    check_named_columns(named)
    layout = _layout_of(columns, named, pairs=pairs, own_source=own_source)
    absent = sorted(name for role, name in named.items() if name not in columns and (role, name) != NO_LABEL)
    missing = [role for role in ("query", "positive") if getattr(layout, role) == ABSENT]
    missing += ["negative"] if ABSENT in layout.negatives else []
    if absent or missing:
        raise _unknown_layout(path, columns, absent, missing, pairs)
    return layout


def _layout_of(columns: Sequence[str], named: Mapping[str, str], *, pairs: bool, own_source: bool) -> Layout:
    """As far as these columns have one; a role that none of them has is the column ABSENT."""
    columns = [name for name in columns if own_source or name != "source" or name in named.values()]
    found = {role: name for role in KNOWN_NAMES if (name := _column_of(role, columns, named))}
    numbered = [] if "negative" in named else sorted(filter(NUMBERED_NEGATIVE.fullmatch, columns), key=_number)
    negatives = () if pairs else (*filter(None, [found.get("negative")]), *numbered) or (ABSENT,)
    query, positive = found.get("query", ABSENT), found.get("positive", ABSENT)
    label = _label_column(columns, named, pairs)
    return Layout(query, positive, negatives, found.get("source"), found.get("external_id"), label)


def _label_column(columns: Sequence[str], named: Mapping[str, str], pairs: bool) -> str | None:
    """Found in any spelling: a label that is missed makes a positive of what is none."""
    if "label" in named:
        return named["label"] if ("label", named["label"]) != NO_LABEL else None
    free = {_in_words(name): name for name in reversed(columns) if name not in {*named.values(), MINERS_OWN}}
    known = (*KNOWN_NAMES["label"], *SCORES) if pairs else KNOWN_NAMES["label"]
    if pairs:  # human_score, answer_label
        free = {name.rpartition("_")[2]: column for name, column in free.items()} | free
    return next((free[name] for name in known if name in free), None)


def _in_words(name: str) -> str:
    """isRelevant and Is-relevant as is_relevant."""
    return re.sub(r"[\s-]+|(?<=[a-z])(?=[A-Z])", "_", name.strip()).casefold()


def _may_be_label(name: str) -> bool:
    return name != MINERS_OWN and not _LABELS.isdisjoint((words := _in_words(name), words.rpartition("_")[2]))


class Layouts:
    """How the rows of one file are laid out: each by its keys that are not null, all alike where only one layout fits.

    Layouts are kept by these keys, so a row costs one look-up. Raises UserError where columns have no layout; where
    there are only keys, `refuse_if_unknown` does so once all rows were seen.
    """

    def __init__(
        self,
        path: str,
        columns: Sequence[str] | None,
        named: Mapping[str, str],
        *,
        pairs: bool = False,
        own_source: bool = True,
    ) -> None:
        check_named_columns(named)
        self._path, self._named, self._pairs, self._own_source = path, named, pairs, own_source
        self._of_keys: dict[tuple[str, ...], Layout] = {}
        self._seen = dict.fromkeys(columns or ())
        self._used: set[str] = set()
        self._ignored: set[str] = set()
        self._of_all: Layout | None = None
        self.labels: dict[str, bool] = {}  # column -> whether the rows are pairs
        self.columns: list[str] | None = None  # those that are read; None: all keys
        if columns is not None:
            layout = tell_layout(path, columns, named, pairs=pairs, own_source=own_source)
            others = [name for name in columns if name not in layout.columns and self._may_be_read(name)]
            self.columns = [*layout.columns, *others]
            self._of_all = None if others else layout
            self._use(layout)

    def _may_be_read(self, column: str) -> bool:
        """Whether a row could be read by a column of this name, as by `anchor` where its `query` is null."""
        role = ROLE_OF.get(column)
        if role is None or role in self._named:
            return False
        return not (role == "source" and not self._own_source) and not (role == "negative" and self._pairs)

    @property
    def ignored(self) -> set[str]:
        """The columns and keys that no row, or not every row, was read by."""
        return self._ignored | (self._seen.keys() - self._used)

    def of(self, row: Mapping[str, Any]) -> Layout:
        """The row's layout."""
        if self._of_all is not None:
            return self._of_all
        keys = tuple(row)
        if None in row.values():
            self._seen.update(dict.fromkeys(keys))
            keys = tuple(key for key, value in row.items() if value is not None or _may_be_label(key))
        return self._of_keys.get(keys) or self._tell(keys)

    def _tell(self, keys: tuple[str, ...]) -> Layout:
        layout = _layout_of(keys, self._named, pairs=self._pairs, own_source=self._own_source)
        if len(self._of_keys) == MAX_KEPT_LAYOUTS:
            self._of_keys.clear()
        self._of_keys[keys] = layout
        self._seen.update(dict.fromkeys(keys))
        self._use(layout)
        self._ignored.update(set(keys) - set(layout.columns))
        return layout

    def _use(self, layout: Layout) -> None:
        self._used.update(layout.columns)
        if layout.label is not None:
            self.labels[layout.label] = self._pairs

    def refuse_if_unknown(self) -> None:
        """Raise UserError if the keys of all rows together have no layout."""
        if self._of_all is None and self._seen:
            tell_layout(self._path, self._seen, self._named, pairs=self._pairs, own_source=self._own_source)


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


def _number(negative: str) -> int:
    return int(negative.removeprefix("negative_"))


def _unknown_layout(path: str, columns: list[str], absent: list[str], missing: list[str], pairs: bool) -> UserError:
    found = first_of(map(shown_name, columns), 30) or "none"
    problem = f"no column {', '.join(map(shown_name, absent))}" if absent else f"no column for {', '.join(missing)}"
    roles = ("query", "positive") if pairs else ("query", "positive", "negative")
    known = "; ".join(f"{role}: {' or '.join(KNOWN_NAMES[role])}" for role in roles)
    alike = {role: name for role in missing for name in columns if name.strip().casefold() in KNOWN_NAMES[role]}
    example = ",".join(f"{role}={name}" for role, name in zip(roles, ("q", "doc", "bad"), strict=False))
    if alike:
        example = f"{shlex.quote(json.dumps(alike, ensure_ascii=False))} (names count with their case and spaces)"
    if missing == ["negative"] and not absent:
        problem += f" (pairs without negatives: `python -m jobs mine --input {shlex.quote(path)}`)"
    return UserError(
        f"{path} has {problem}; found the columns {found}; expected {known}{'' if pairs else ' or negative_1 ..'}: "
        f"tell which is which, e.g. --columns {example}, and if these are a row's values, put a header line above them"
    )


def shown_name(name: str) -> str:
    """A column's name on one line of any terminal; in quotes where its ends would not be seen."""
    shown = ascii(name[:60]) if not name.isprintable() else name[:60]
    return repr(shown) if shown != shown.strip() or not shown or "," in shown else shown


def check_row(value: Mapping[str, Any], layout: Layout, max_text_chars: int) -> CheckedRow | list[str]:
    """The row's texts, or every reason against it."""
    reasons: list[str] = []
    query: Any = value.get(layout.query)
    if problem := text_problem(query, max_text_chars):
        reasons.append("query_missing" if _is_null(query) else f"query_{problem}")
    positives = _texts("positive", value.get(layout.positive), max_text_chars, reasons)
    negatives = _negatives(value, layout, max_text_chars, reasons)
    source = written_label("source", layout.source, value, reasons)
    external_id = written_label("external_id", layout.external_id, value, reasons)
    reasons += [f"positive_equals_negative{where}" for where in _alike(positives, negatives)]
    is_positive = layout.label is None
    if layout.label is not None:
        roles = [True] * len(positives) + [False] * len(negatives)
        is_positive = _is_positive(value.get(layout.label), roles, reasons, pairs=not layout.negatives)
    if reasons:
        return reasons
    texts = [text for _, text in positives], [text for _, text in negatives]
    return CheckedRow(query, *texts, source, external_id, is_positive or bool(layout.negatives))


def _alike(positives: list[tuple[str, str]], negatives: list[tuple[str, str]]) -> list[str]:
    """The places of negatives that a reader cannot tell from a positive; few begin like one, so few are compared."""
    heads = {visible_head(text) for _, text in positives}
    if not any([visible_head(text) in heads for _, text in negatives]):
        return []
    seen = {visible(text) for _, text in positives}
    return [where for where, text in negatives if visible(text) in seen]


def _is_positive(label: Any, roles: list[bool], reasons: list[str], *, pairs: bool) -> bool:
    """What the label says of a pair; a triplet's must not contradict its roles."""
    is_positive = _binary(label)
    if pairs and is_positive is None:
        reasons.append("label_missing" if _is_null(label) else "label_not_0_or_1")
    elif not pairs and (is_positive is False or _contradict(label, roles)):
        reasons.append("label_contradicts_roles")
    return is_positive is True


def _contradict(labels: Any, roles: list[bool]) -> bool:
    """Whether a list has a label of 0 or 1 for each text, but not its role."""
    said = [_binary(label) for label in labels] if isinstance(labels, list) else []
    return len(said) == len(roles) and None not in said and said != roles


def _binary(label: Any) -> bool | None:
    """What a label of 0 or 1 says; None for any other."""
    if isinstance(label, list | dict):
        return None
    return _BINARY.get(label.strip().lower() if isinstance(label, str) else label)


def _negatives(
    value: Mapping[str, Any], layout: Layout, max_text_chars: int, reasons: list[str]
) -> list[tuple[str, str]]:
    before = len(reasons)
    texts: list[tuple[str, str]] = []
    for column in layout.negatives:
        negative = value.get(column)
        if not _is_null(negative):
            where = f"[{column.removeprefix('negative_')}]" if layout.has_numbered_negatives else ""
            texts += _texts("negative", negative, max_text_chars, reasons, where)
    if layout.negatives and not texts and len(reasons) == before:
        reasons.append("negative_missing")
    return texts


def _texts(role: str, value: Any, max_text_chars: int, reasons: list[str], where: str = "") -> list[tuple[str, str]]:
    """(element's place, text) of each good text; the others become reasons."""
    if isinstance(value, str) and not text_problem(value, max_text_chars):
        return [(where, value)]
    if _is_null(value) or value == []:
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
    if not "!" <= text[:1] <= "~" and is_blank(text):  # the first test alone settles most, at once
        return "blank"
    if len(text) > max_text_chars:
        return "too_long"
    return None if text.isascii() or not encoding_error(text) else "has_lone_surrogate"


def _is_null(value: Any) -> bool:
    return value is None or value != value  # NaN differs from itself


def written_label(role: str, column: str | None, value: Mapping[str, Any], reasons: list[str]) -> str | None:
    """A source or external_id: text, or a whole number, date or UUID written out; blank and NaN are as good as absent.

    A whole number may be a float, as tables make one of a column of numbers once a value is missing; above 2**53 it
    has lost digits.
    """
    if column is None or _is_null(label := value.get(column)) or (isinstance(label, str) and is_blank(label)):
        return None
    if isinstance(label, str) and not encoding_error(label):
        return label
    if isinstance(label, (int, UUID, date)) and not isinstance(label, bool):
        return str(label)
    if isinstance(label, (float, Decimal)) and label % 1 == 0 and (isinstance(label, Decimal) or abs(label) < 2**53):
        return str(int(label))
    reasons.append(f"{role}_wrong_type")
    return None
