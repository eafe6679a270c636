"""Files of passages as rows, each text once, in the order of their ids.

A passage is the column text, passage or contents, behind its title where there is one; `external_id` and `source` are
kept, as of triplets. `--columns text=body,external_id=key` names others. Of a text that comes again the first row
counts. Passages whose external id was erased are left out. Memory: the texts, plus about 500 bytes each.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import polars as pl

from pipelines.intake.delimited import Quoting
from pipelines.intake.input_files import InputFile
from pipelines.intake.layouts import RowChecks, shown_name, text_problem, title_and_text, written_label
from pipelines.intake.plain_texts import say_what_is_left_out
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.printable import counted
from pipelines.stage.progress import tell
from pipelines.storage.commits import IngestedFile
from pipelines.storage.erased import hashed
from pipelines.texts.ids import text_id

ROLES = {"text": ("text", "passage", "contents"), "title": ("title",), "external_id": ("external_id",)}
ROLES |= {"source": ("source",)}
SCHEMA = {
    "passage_id": pl.String(),
    "passage": pl.String(),
    "source": pl.String(),
    "source_file": pl.String(),
    "source_row": pl.Int64(),
    "external_id": pl.String(),
}


class Told(NamedTuple):
    """What the user says of the files."""

    columns: Mapping[str, str]
    quoting: Quoting | None = None
    source: str | None = None
    licence: str | None = None


AS_FOUND = Told({})


class Read(NamedTuple):
    """All passages, and the files they came from."""

    passages: pl.DataFrame  # SCHEMA, by passage_id
    files: list[IngestedFile]  # of each its rows, and those left out as `quarantined`; duplicates are of other rows


def read_passages(
    files: Sequence[InputFile], told: Told, checks: RowChecks, max_passages: int, erased: frozenset[str]
) -> Read:
    """The good passages of all files.

    Raises:
        UserError: a file has no such column, is mostly bad, or there are none or too many.
    """
    if unknown := sorted(told.columns.keys() - ROLES.keys()):
        raise UserError(f"--columns names {', '.join(unknown)}, expected role=column, a role being {', '.join(ROLES)}")
    by_id: dict[str, tuple[Any, ...]] = {}
    accounts: list[IngestedFile] = []
    for file in files:
        counts = {"rows": 0, "quarantined": 0, "triplets": 0, "duplicates": 0}
        for row in _rows(file, told, checks, counts, erased):
            counts["duplicates"] += row[0] in by_id
            by_id.setdefault(row[0], row)
            if len(by_id) > max_passages:
                raise UserError(
                    f"found more than {max_passages:,} distinct passages, expected at most that many, as they are held "
                    "in memory: give fewer, or raise generate.max_held_passages (about 2.5 KB each)"
                )
        named = {"source": told.source or file.source, "licence": told.licence}
        accounts.append(IngestedFile(path=file.path, sha256=file.sha256, **named, **counts))
    if not by_id:
        raise UserError(f"{first_of(file.path for file in files)}: no passage that can be read; expected at least one")
    frame = pl.DataFrame(list(by_id.values()), schema=SCHEMA, orient="row").sort("passage_id")
    repeated = sum(account.duplicates for account in accounts)
    tell(f"generate: {counted(len(frame), 'passage')}" + (f", {counted(repeated, 'repeated row')}" if repeated else ""))
    return Read(frame, accounts)


def _rows(
    file: InputFile, told: Told, checks: RowChecks, counts: dict[str, int], erased: frozenset[str]
) -> Iterator[tuple[Any, ...]]:
    """The file's good passages as SCHEMA has them."""
    opened = file.open()
    columns = _columns(file, opened.columns, told) if opened.columns is not None else {}
    seen = dict.fromkeys(opened.columns or ())
    left_out = bad = 0
    for batch in opened.batches(list(columns.values()) if opened.columns is not None else None):
        counts["rows"] += len(batch)
        for row in batch:
            value = row.value or {}
            if opened.columns is None:
                seen.update(dict.fromkeys(value))
                columns = _of_keys(value, told)
            found = _passage(value, columns, checks)
            if found is None:
                bad += 1
                continue
            text, source, external_id = found
            if external_id is not None and hashed(external_id) in erased:
                left_out += 1
                continue
            yield text_id(text), text, told.source or source or file.source, file.path, row.number, external_id
    if opened.columns is None:
        _columns(file, seen, told)
    counts["quarantined"] = bad + left_out
    if left_out:
        tell(f"{file.path}: {counted(left_out, 'passage')} left out, by external ids that were erased")
    say_what_is_left_out(file, bad, counts["rows"], checks, what="passages", stage="generate")


def _columns(file: InputFile, found: Iterable[str], told: Told) -> dict[str, str]:
    """Role -> column. Raises UserError where none holds the text, or a named one is not there."""
    names = list(found)
    columns = _of_keys(dict.fromkeys(names, ""), told)
    missing = sorted(set(told.columns.values()) - set(names)) or ([] if "text" in columns else ["text"])
    if missing:
        raise UserError(
            f"{file.path} has the columns {first_of(map(shown_name, names), 30)}, expected "
            f"{', '.join(map(shown_name, missing))}: say which one holds the passages, as in --columns text=body"
        )
    return columns


def _of_keys(value: Mapping[str, Any], told: Told) -> dict[str, str]:
    """Role -> the key of a row that plays it."""
    roles = {}
    for role, names in ROLES.items():
        named = (told.columns[role],) if role in told.columns else names
        if key := next((name for name in named if value.get(name) is not None), None):
            roles[role] = key
    return roles


def _passage(
    value: Mapping[str, Any], columns: Mapping[str, str], checks: RowChecks
) -> tuple[str, str | None, str | None] | None:
    """Text, source and external id; None where they are not what they must be."""
    got = {role: value.get(column) for role, column in columns.items()}
    title = got.get("title")
    text = title_and_text({"title": title if title == title else None, "text": got.get("text")})
    reasons: list[str] = []
    source = written_label("source", columns.get("source"), value, reasons)
    external_id = written_label("external_id", columns.get("external_id"), value, reasons)
    with suppress(TypeError):
        if not reasons and text_problem(text, checks.max_text_chars) is None:
            return text, source, external_id
    return None
