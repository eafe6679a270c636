"""Which texts are the same, whoever compares them: splits, evaluation texts, mining, intake; never what is stored.

    normalise   the same question, however it is typed: case, punctuation, spacing, Unicode's spellings
    visible     the same passage to any reader: Unicode's spellings, invisible characters, space around
    same_texts  queries that stand among passages, punctuation included
    is_blank    nothing that a reader sees

They follow Unicode's NFKC_Casefold: code points that are Default_Ignorable (soft hyphen, zero-width space and
joiners, variation selectors, bidi controls, tags) are removed, compatibility characters are their plain ones.
`normalise` folds case in full, ß as ss, and goes one step further: i with a dot, i without one and I are one letter,
as only the language would tell which one a capital stands for.
"""

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

import polars as pl
import regex

from pipelines.texts.ids import text_id

_IGNORABLE = r"\p{Default_Ignorable_Code_Point}"
# punctuation, symbols, white space, control and format characters that are not ignorable
_SEPARATORS = r"[\p{P}\p{S}\p{Z}\s\p{Cc}\p{Cf}]+"
_IGNORABLES = regex.compile(_IGNORABLE)
_INVISIBLE = regex.compile(rf"[{_IGNORABLE}\s\p{{Z}}\p{{Cc}}\p{{Noncharacter_Code_Point}}\u2800\ufff9-\ufffb]*")
_TEXTS_AT_ONCE = 100_000


def normalise(text: pl.Expr) -> pl.Expr:
    """The text without the differences that case, punctuation, spacing and Unicode's spellings make.

    "C'est  l'ÉTÉ?" and "c est l été" are the same question. A text of only punctuation is itself, stripped.
    """
    return text.map_batches(normalised, return_dtype=pl.String, is_elementwise=True)


def normalised(texts: pl.Series) -> pl.Series:
    """`normalise` of texts that are there."""
    folded = _folded(texts)
    words = folded.str.replace_all(_SEPARATORS, " ").str.strip_chars(" ")
    return words.zip_with(words != "", folded.str.strip_chars())


def _folded(texts: pl.Series) -> pl.Series:
    """Unicode's NFKC_Casefold, and one letter i."""
    folded = texts.str.to_lowercase()  # all that an ASCII text needs
    is_ascii = texts.str.len_bytes() == texts.str.len_chars()
    if len(others := texts.filter(~is_ascii)):
        spelled = others.str.replace_all(_IGNORABLE, "").str.normalize("NFKC").str.to_lowercase()
        folded = folded.scatter((~is_ascii).arg_true(), spelled.str.replace_many(_case_folds()).str.normalize("NFKC"))
    return folded


@cache
def _case_folds() -> dict[str, str]:
    """What full case folding makes of a letter where lower case does not, and one letter i."""
    folds = {char: char.casefold() for char in map(chr, range(0x20000)) if char.casefold() != char.lower()}
    return folds | {"\u0131": "i", "i\u0307": "i"}  # without its dot, and with the dot that a capital leaves


def comparison_ids(texts: Sequence[str]) -> list[str]:
    """An id of each text that all texts share which are the same after `normalise`."""
    return list(map(text_id, _each(texts, normalised)))


def _each(texts: Sequence[str], compared: Callable[[pl.Series], pl.Series]) -> Iterator[str]:
    """What becomes of each text, in constant memory."""
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        yield from compared(pl.Series(texts[start : start + _TEXTS_AT_ONCE], dtype=pl.String))


def same_texts(queries: Mapping[str, str], passages: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(query's key, passage's key) wherever one is the other but for case, spelling, spacing and the end of a sentence.

    Stricter than `normalise`: C# is not C++.
    """
    keys: dict[str, list[str]] = {}
    for key, text in zip(queries, _each(list(queries.values()), _sentences), strict=True):
        keys.setdefault(text, []).append(key)
    keys.pop("", None)
    for passage, text in zip(passages, _each(list(passages.values()), _sentences), strict=True):
        yield from ((query, passage) for query in keys.get(text, ()))


def _sentences(texts: pl.Series) -> pl.Series:
    return _folded(texts).str.replace_all(r"\s+", " ").str.strip_chars(" .!?。")


def visible(text: str) -> str:
    """The text as a reader sees it, case and punctuation included; of plain ASCII only the space around is removed."""
    if text.isascii():
        return text.strip()
    return unicodedata.normalize("NFKC", _IGNORABLES.sub("", text)).strip()


def visible_head(text: str) -> str:
    """The first character of `visible`, sooner had: texts that differ in it are not the same."""
    start = text[:2]
    if start.isascii() and start > "!":  # no mark follows that would join it
        return start[0]
    return visible(text[_INVISIBLE.match(text).end() :][:32])[:1]


def is_blank(text: str) -> bool:
    """Whether it has nothing visible: white space, control, ignorable and blank characters alone, or none at all."""
    return _INVISIBLE.fullmatch(text) is not None
