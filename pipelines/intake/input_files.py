"""One thing to be read, as found: a file, or one version of a Delta table; its account's key, and its rows.

    InputFile --open--> Input: rows of the file and the columns that its folders' names give (lang=de/x.jsonl)

A table's rows are those of its files, sorted by path, less what a deletion vector deletes; they count from 1.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pipelines.intake.delimited import Quoting
from pipelines.intake.formats import DATA_ENDINGS, Input, open_file
from pipelines.intake.raw_rows import RawRow
from pipelines.stage.errors import UserError
from pipelines.storage.foreign_tables import ForeignTable

Partitions = Mapping[str, str | None]
"""The columns that folders' names give, with their one value for all rows."""


@dataclass(frozen=True)
class InputFile:
    """What find_files found, before it is opened."""

    path: str  # as it was given and found; FOLDER@VERSION of a table
    source: str  # of rows that name none, if the user names none
    partitions: Partitions = field(default_factory=dict)
    table: ForeignTable | None = None
    quoting: Quoting | None = None  # of CSV and TSV, where it was said
    licence: str | None = None  # that it came with
    is_ours: bool = False  # a table of this root: how its columns are read need not be said

    @cached_property
    def sha256(self) -> str:
        """Of a file's content; of a table's id, version and list of files."""
        if self.table:
            return self.table.sha256
        try:
            with Path(self.path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"input {self.path} cannot be read: {error.strerror}; expected a readable file") from error

    @property
    def told(self) -> dict[str, Any]:
        """How it is read, where not by its content alone."""
        told = {"folders": self.partitions, "quoting": self.quoting}
        return {name: value for name, value in told.items() if value}

    @property
    def size_bytes(self) -> int:
        return self.table.size_bytes if self.table else Path(self.path).stat().st_size

    def open(self) -> Input:
        """How to read it. Raises UserError where it is nothing that can be read."""
        if self.table:
            if not self.table.files:
                raise UserError(f"{self.path} is a Delta table without rows, expected rows: give another version")
            return Input(self.path, self.table.columns, partial(_table_rows, self.table))
        opened = open_file(self.path, self.quoting)
        if not self.partitions:
            return opened
        columns = opened.columns and tuple(dict.fromkeys([*opened.columns, *self.partitions]))
        return replace(opened, columns=columns, read=partial(self._partitioned_rows, opened))

    def _partitioned_rows(self, opened: Input, columns: Sequence[str] | None) -> Iterator[list[RawRow]]:
        told = self.partitions.keys() - (opened.columns or ())
        own = None if columns is None else [name for name in columns if name not in told]
        for batch in opened.read(own):
            yield list(map(self._with_partitions, batch))

    def _with_partitions(self, row: RawRow) -> RawRow:
        value = row.value or {}
        for name, told in self.partitions.items():
            if value.get(name) not in (None, told) and str(value[name]) != told:
                raise UserError(
                    f"{self.path} row {row.number:,} has {name} {value[name]!r:.60}, but its folder's name says "
                    f"{told!r}: expected one of them; rename the column or the folder"
                )
        return row.with_columns(self.partitions)


def stem(path: Path) -> str:
    """The name without the endings of data files."""
    while path.suffix.lower() in DATA_ENDINGS:
        path = path.with_suffix("")
    return path.name or str(path)


def _table_rows(table: ForeignTable, columns: Sequence[str] | None) -> Iterator[list[RawRow]]:
    """Batches of at least one row; a column that is not in a file is null, as it is younger."""
    number = 0
    for file in table.files:
        opened = open_file(file.path)
        own = None if columns is None else [name for name in columns if name in (opened.columns or ())]
        for batch in opened.batches(own):
            kept = [row for row in batch if file.keeps(row.number)]
            if kept:
                yield [row.with_columns(file.partitions)._replace(number=n) for n, row in enumerate(kept, number + 1)]
                number += len(kept)
