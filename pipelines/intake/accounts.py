"""Input files as checked rows: what ingest and mine share in front of their own work.

    path --format, layout--> raw rows --check_row--> checked rows, and quarantined rows with their reasons

An `Intake` counts each file's rows and refuses a file in which too many are bad.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.intake.formats import DATA_ENDINGS, open_file
from pipelines.intake.layouts import CheckedRow, Layout, RowChecks, check_row, tell_layout
from pipelines.intake.raw_rows import RawRow
from pipelines.intake.spill import Spill
from pipelines.stage.errors import UserError
from schemas.quarantined_rows import MAX_RAW_BYTES


@dataclass
class FileCounts:
    """One input file, one row of ingested_files: what it is, and what became of its rows."""

    path: str  # as given
    sha256: str
    source: str  # of the rows that name none themselves
    licence: str | None
    columns: str  # JSON: how the file was read where that was not told by its content alone
    rows: int = 0
    quarantined: int = 0
    triplets: int = 0  # new ones
    duplicates: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        return self.sha256, self.source, self.columns

    def __str__(self) -> str:
        accepted = self.rows - self.quarantined
        return (
            f"{self.rows:,} rows: {accepted:,} accepted as {self.triplets:,} new triplets and "
            f"{self.duplicates:,} duplicates, {self.quarantined:,} quarantined"
        )


@dataclass
class BadRows:
    """Why rows of one file were quarantined; reasons are counted without the element they name."""

    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, number: int, reasons: list[str], raw: str | None) -> None:
        for reason in dict.fromkeys(reason.partition("[")[0] for reason in reasons):
            self.reasons[reason] += 1
            self.examples.setdefault(reason, f"row {number:,}: {ascii(raw[:120]) if raw is not None else 'not kept'}")

    def __str__(self) -> str:
        top = self.reasons.most_common(3)
        return "; ".join(f"{reason} in {count:,} (e.g. {self.examples[reason]})" for reason, count in top)


def describe_file(
    path: str, source: str | None, licence: str | None, columns: Mapping[str, str] | None = None
) -> FileCounts:
    """A file by its content's sha256; the default source is the file's name without its endings."""
    try:
        with Path(path).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"input {path} cannot be read: {error.strerror}; expected a readable file") from error
    told = json.dumps(dict(columns), sort_keys=True, ensure_ascii=False) if columns else ""
    return FileCounts(path, sha256, source or _stem(path), licence, told)


def _stem(path: str) -> str:
    name = Path(path)
    while name.suffix.lower() in DATA_ENDINGS:
        name = name.with_suffix("")
    return name.name


class Intake:
    """The input files of one run, in order, their counts, and the spill that takes what becomes of their rows."""

    def __init__(self, checks: RowChecks, spill: Spill, named: Mapping[str, str], *, own_source: bool) -> None:
        self.checks, self.spill, self.named = checks, spill, named
        self.own_source = own_source  # whether a column `source` counts: not where the user gave one for all
        self.files: list[FileCounts] = []
        self._bad: list[BadRows] = []
        self._announced: set[tuple[str, ...]] = set()

    def add_file(self, file: FileCounts) -> int:
        """The file's position, by which its triplets name it in the spill."""
        self.files.append(file)
        self._bad.append(BadRows())
        return len(self.files) - 1

    def rows(self, position: int, *, pairs: bool = False) -> Iterator[tuple[int, CheckedRow]]:
        """The file's good rows with their numbers. Raises UserError at its end if too many were bad."""
        file = self.files[position]
        opened = open_file(file.path)
        layout = self._layout(file.path, opened.columns, pairs)
        seen = set(opened.columns)
        for batch in opened.batches(layout.columns if opened.kind == "parquet" else None):
            for row in batch:
                file.rows += 1
                if row.value is not None and not row.value.keys() <= seen:
                    layout = layout.with_numbered_negatives(row.value.keys())
                    seen |= row.value.keys()
                checked = [str(row.problem)] if row.value is None else self._check(row.value, layout)
                if isinstance(checked, CheckedRow):
                    yield row.number, checked
                else:
                    self.quarantine(position, row.number, checked, _raw(row))
        self._announce_ignored(file.path, seen - set(layout.columns))
        self.refuse_if_mostly_bad(position)

    def quarantine(self, position: int, number: int, reasons: list[str], raw: str) -> None:
        """Count and keep one bad row."""
        kept = raw if self.checks.keep_raw else None
        self.files[position].quarantined += 1
        self._bad[position].add(number, reasons, kept)
        self.spill.quarantine(position, number, reasons, kept)

    def refuse_if_mostly_bad(self, position: int) -> None:
        file = self.files[position]
        if file.rows == 0:
            raise UserError(
                f"{file.path} has no row below its header, expected rows: leave it out or give another file"
            )
        if file.quarantined > self.checks.max_bad_share * file.rows:
            bad = f"{file.quarantined:,} of {file.rows:,} rows ({file.quarantined / file.rows:.1%})"
            raise UserError(
                f"{file.path}: {bad} are bad, "
                f"expected at most {self.checks.max_bad_share:.1%}: {self._bad[position]}; nothing was written: repair "
                "the file, tell its columns with --columns, or raise max_bad_share"
            )

    def _check(self, value: dict[str, Any], layout: Layout) -> CheckedRow | list[str]:
        return check_row(value, layout, self.checks.max_text_chars)

    def _layout(self, path: str, columns: tuple[str, ...], pairs: bool) -> Layout:
        looked_at = [name for name in columns if self.own_source or name != "source" or name in self.named.values()]
        return tell_layout(path, looked_at, self.named, pairs=pairs)

    def _announce_ignored(self, path: str, columns: set[str]) -> None:
        ignored = tuple(sorted(columns))
        if ignored and ignored not in self._announced:
            self._announced.add(ignored)
            shown = ", ".join(name if name.isprintable() else ascii(name) for name in ignored[:30])
            more = f" and {len(ignored) - 30} more" if len(ignored) > 30 else ""
            print(f"{path} and files like it: ignored columns {shown}{more}", file=sys.stderr)


def _raw(row: RawRow) -> str:
    """The row as found, cut to what the table takes, in valid UTF-8."""
    if row.raw is None:
        text = json.dumps(row.value, ensure_ascii=False, default=str)
    else:
        text = row.raw[:MAX_RAW_BYTES].decode("utf-8", "replace").rstrip("\r\n")
    return text.encode("utf-8", "replace")[:MAX_RAW_BYTES].decode("utf-8", "ignore")
