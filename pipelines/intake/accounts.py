"""From an opened file to checked rows, and the account of what became of each: what ingest and mine share.

    Input --batches--> raw rows --check_row--> good rows, to the stage; bad rows with their reasons, to the spill

A file in which too many rows are bad is refused.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ConfigDict, Field, InstanceOf

from pipelines.intake.formats import Input
from pipelines.intake.input_files import InputFile, stem
from pipelines.intake.layouts import CheckedRow, Layouts, RowChecks, check_row, shown_name, written_label
from pipelines.intake.raw_rows import RawRow
from pipelines.intake.spill import Negative, Spill, SpilledTriplet
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.printable import counted
from pipelines.stage.progress import tell
from pipelines.storage.commits import IngestedFile
from pipelines.storage.erased import hashed, names_erased
from schemas.quarantined_rows import MAX_NAMED_CHARS, MAX_RAW_BYTES

HINTS = {
    "not_utf8": "if it is Latin-1 or Windows-1252, iconv -f CP1252 -t UTF-8",
    "not_csv": 'in CSV a quote in a field is doubled, not written \\"; if quotes are plain: --quoting none',
    "label_not_0_or_1": "keep what is positive, or make 0 and 1 of a grade; to take all pairs: --columns label=none",
    "label_missing": "to take every row as positive: --columns label=none",
    "label_contradicts_roles": "if that column says something else: --columns label=none",
    "repeated_header": "where files were joined, their headers are no loss: raise max_bad_share",
    "line_break_in_field": "check its line ends, or leave out --quoting none",
}
"""What to do about the problems that concern a whole file."""

ERASED = "erased"
"""The reason against a row whose external id was erased; nothing else is kept of it."""


class FileCounts(IngestedFile):
    """One input file and, as they come to be known, the counts of its rows; one row of ingested_files in the end.

    `source` is that of rows that name none; `columns` is JSON: how the file was read, where not by its content alone.
    """

    model_config = ConfigDict(frozen=False)

    found: InstanceOf[InputFile] = Field(InputFile("", ""), exclude=True)

    @property
    def keys(self) -> set[tuple[str, str, str]]:
        """Those of ingested_files under which it is known: a folder's file may have been given by its own name."""
        own = {stem(Path(self.path))} if self.source == self.found.source and not self.found.table else set()
        return {(self.sha256, source, self.columns) for source in {self.source, *own}}

    def __str__(self) -> str:
        accepted = self.rows - self.quarantined
        return (
            f"{counted(self.rows, 'row')}: {accepted:,} accepted as {counted(self.triplets, 'new triplet')} and "
            f"{counted(self.duplicates, 'duplicate')}, {self.quarantined:,} quarantined"
        )


def describe_file(
    file: InputFile, source: str | None, licence: str | None, columns: Mapping[str, Any] | None = None
) -> FileCounts:
    """A file's account before its rows are read."""
    told = {**(columns or {}), **file.told}
    return FileCounts(
        found=file,
        path=file.path,
        sha256=file.sha256,
        source=source or file.source,
        licence=licence or file.licence,
        columns=json.dumps(told, sort_keys=True, ensure_ascii=False) if told else "",
    )


class Intake:
    """The input files of one run, in order, and the spill that takes their rows; files are named by their position."""

    def __init__(
        self, files: list[FileCounts], checks: RowChecks, spill: Spill, erased: frozenset[str] = frozenset()
    ) -> None:
        self.files, self.checks, self.spill = files, checks, spill
        self._announced: set[str] = set()
        self._erased, self._left_out = erased, Counter[int]()

    def good_rows(self, position: int, opened: Input, layouts: Layouts) -> Iterator[tuple[int, CheckedRow]]:
        """The file's good rows with their numbers. Raises UserError at its end if it has no layout or is mostly bad."""
        layout_of, max_text_chars = layouts.of, self.checks.max_text_chars
        for batch in opened.batches(layouts.columns):
            self.files[position].rows += len(batch)
            for row in batch:
                if row.value is None:
                    checked: CheckedRow | list[str] = [str(row.problem)]
                else:
                    checked = check_row(row.value, layout_of(row.value), max_text_chars)
                if self._erased and self._was_erased(checked, row):
                    self._left_out[position] += 1
                    self.quarantine(position, row.number, [ERASED], None)
                elif isinstance(checked, CheckedRow):
                    yield row.number, checked
                else:
                    self.quarantine(position, row.number, checked, _raw(row), _named_source(row, layouts))
        layouts.refuse_if_unknown()
        if left_out := self._left_out[position]:
            tell(f"{self.files[position].path}: {counted(left_out, 'row')} left out, by external ids that were erased")
        if not self.files[position].found.is_ours:
            self._announce_columns(opened.path, layouts)
        self.refuse_if_mostly_bad(position)

    def add(self, position: int, number: int, row: CheckedRow, negatives: Sequence[Negative]) -> None:
        """Spill each of a row's positives with each negative."""
        origin = (row.source or self.files[position].source, row.external_id, position, number)
        for positive in row.positives:
            for negative in negatives:
                self.spill.add(SpilledTriplet(row.query, positive, *negative, *origin))

    def _was_erased(self, checked: CheckedRow | list[str], row: RawRow) -> bool:
        """Whether the row may not come back; of a bad one, whether it may hold an erased id at all."""
        if isinstance(checked, CheckedRow):
            return checked.external_id is not None and hashed(checked.external_id) in self._erased
        return names_erased(_raw(row), self._erased)

    def quarantine(
        self, position: int, number: int, reasons: list[str], raw: str | None, named_source: str | None = None
    ) -> None:
        """Count and keep one bad row."""
        self.files[position].quarantined += 1
        self._keep(position, number, reasons, raw, None, named_source)

    def leave_out(self, position: int, number: int, reason: str, raw: str, rank: int, named_source: str | None) -> None:
        """Count and keep one row that is whole, and yet not wanted: however many these are, the file is no bad one."""
        self._left_out[position] += 1
        self.files[position].quarantined += 1
        self._keep(position, number, [reason], raw, rank, named_source)

    def _keep(
        self,
        position: int,
        number: int,
        reasons: list[str],
        raw: str | None,
        rank: int | None,
        named_source: str | None,
    ) -> None:
        """With what the row held, where that may be stored: `erase` tells by it whose row it was."""
        held = (raw, rank, named_source and named_source[:MAX_NAMED_CHARS])
        self.spill.quarantine(position, number, reasons, *(held if self.checks.keep_raw else (None, rank, None)))

    def refuse_if_mostly_bad(self, position: int) -> None:
        file, path = self.files[position], self.files[position].path
        if file.rows == 0:
            raise UserError(f"{path} has no row below its header, expected rows: leave it out or give another file")
        bad = file.quarantined - self._left_out[position]
        if bad > self.checks.max_bad_share * file.rows:
            reasons = self._reasons(position)
            raise UserError(
                f"{path}: {bad:,} of {file.rows:,} rows ({bad / file.rows:.1%}) are bad, "
                f"expected at most {self.checks.max_bad_share:.1%}: {reasons}; nothing was written: "
                "repair the file, tell its columns with --columns, or raise max_bad_share "
                "(--set ingest.max_bad_share=0.5, or mine.max_bad_share)"
                + "".join(f"; {hint}" for reason, hint in HINTS.items() if f"{reason} in" in reasons)
            )

    def _reasons(self, position: int) -> str:
        """The most frequent reasons against a file's rows, without the elements they name, each with its first row."""
        counts: Counter[str] = Counter()
        examples: dict[str, str] = {}
        for frame in self.spill.quarantined():
            kept = frame.filter(pl.col("file") == position).select("source_row", "reasons", "raw")
            for number, reasons, raw in kept.iter_rows():
                shown = f"row {number:,}: {'not kept' if raw is None else ascii(raw[:120])}"
                for reason in {reason.partition("[")[0]: None for reason in reasons}:
                    counts[reason] += 1
                    examples.setdefault(reason, shown)
        return "; ".join(f"{reason} in {count:,} (e.g. {examples[reason]})" for reason, count in counts.most_common(3))

    def _announce_columns(self, path: str, layouts: Layouts) -> None:
        if layouts.ignored:
            self._announce(path, f"ignored columns {first_of(map(shown_name, sorted(layouts.ignored)), 30)}")
        for column, of_pairs in layouts.labels.items():
            meaning = "0 makes a pair a known negative" if of_pairs else "a row whose positive has 0 is quarantined"
            self._announce(
                path, f"column {shown_name(column)} is read as a label: {meaning}; to ignore it: --columns label=none"
            )

    def _announce(self, path: str, line: str) -> None:
        """Of files that are alike the first alone is told of."""
        if line not in self._announced:
            self._announced.add(line)
            tell(f"{path} and files like it: {line}")


def _named_source(row: RawRow, layouts: Layouts) -> str | None:
    """The source that a bad row names, as far as it can be read."""
    return None if row.value is None else written_label("source", layouts.of(row.value).source, row.value, [])


def _raw(row: RawRow) -> str:
    """The row as found, cut to what the table takes, in valid UTF-8."""
    if row.raw is None:
        text = json.dumps(row.value, ensure_ascii=False, default=str)
    else:
        text = row.raw[:MAX_RAW_BYTES].decode("utf-8", "replace").rstrip("\r\n")
    return text.encode("utf-8", "replace")[:MAX_RAW_BYTES].decode("utf-8", "ignore")
