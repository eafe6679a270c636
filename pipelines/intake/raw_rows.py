"""The rows of one file, as found: batches of numbered raw rows, in constant memory.

A row that cannot be read comes out with its problem: `not_json`, `not_an_object`, `line_too_long` (JSON Lines),
`not_csv`, `wrong_number_of_fields` (CSV), `not_utf8`. Damage to the file itself is raised by the library that meets it;
formats.py says what to do about it. Rows count from 1: lines in JSON Lines (blank lines count, but are no
rows), rows below the header in CSV, rows in Parquet.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow
import pyarrow.parquet

from pipelines.stage.errors import UserError

BATCH_ROWS = 10_000
BATCH_BYTES = 32 << 20
LINE_BYTES = 64 << 20  # the longest line that is held in memory
BOM = b"\xef\xbb\xbf"

csv.field_size_limit(LINE_BYTES)  # the default, 128 KB, would refuse long passages; it is one for the whole process


class RawRow(NamedTuple):
    """One row as found: its value, or the problem that kept it from having one."""

    number: int
    value: dict[str, Any] | None
    problem: str | None = None
    raw: bytes | None = None  # None in Parquet: the value itself is what was found


def open_text(path: str, compression: str | None) -> BinaryIO:
    if compression is None:
        return Path(path).open("rb", buffering=1 << 20)
    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(path), compression), 1 << 20)


def in_batches(rows: Iterator[RawRow]) -> Iterator[list[RawRow]]:
    batch: list[RawRow] = []
    num_bytes = 0
    for row in rows:
        batch.append(row)
        num_bytes += len(row.raw or b"")
        if len(batch) >= BATCH_ROWS or num_bytes >= BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def json_lines(path: str, compression: str | None) -> Iterator[RawRow]:
    with open_text(path, compression) as stream:
        number = 0
        while line := stream.readline(LINE_BYTES):
            number += 1
            if number == 1:
                line = line.removeprefix(BOM)
            if len(line) == LINE_BYTES and not line.endswith(b"\n"):
                while (rest := stream.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield RawRow(number, None, "line_too_long", line[: 1 << 16])
            elif not line.isspace() and line:
                yield _json_row(number, line)


def _json_row(number: int, line: bytes) -> RawRow:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError:
        return RawRow(number, None, "not_utf8", line)
    except (ValueError, RecursionError):
        return RawRow(number, None, "not_json", line)
    if not isinstance(value, dict):
        return RawRow(number, None, "not_an_object", line)
    return RawRow(number, value, None, line)


def delimited(path: str, compression: str | None, delimiter: str, columns: tuple[str, ...]) -> Iterator[RawRow]:
    """CSV and TSV; an empty field is an absent value.

    Where quotes are broken, every line up to the break is a row with the problem `not_csv`, so that a quote that is
    never closed shows as all the lines it swallowed.
    """
    with open_text(path, compression) as stream:
        lines = _DecodedLines(stream, path)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        number, header_seen = 0, False
        while True:
            problem, fields = _next_fields(reader)
            taken, decoded = lines.take()
            if not taken and fields is None:
                return
            if not header_seen:
                header_seen = any(fields or [])
            elif problem:
                for line in taken:
                    number += 1
                    yield RawRow(number, None, problem, line)
            elif fields and not b"".join(taken).isspace():
                number += 1
                yield _fields_row(number, columns, fields, b"".join(taken), decoded)


def _next_fields(reader: Iterator[list[str]]) -> tuple[str | None, list[str] | None]:
    try:
        return None, next(reader, None)
    except csv.Error:
        return "not_csv", None


def _fields_row(number: int, columns: tuple[str, ...], fields: list[str], raw: bytes, decoded: bool) -> RawRow:
    if not decoded:
        return RawRow(number, None, "not_utf8", raw)
    if len(fields) != len(columns):
        return RawRow(number, None, "wrong_number_of_fields", raw)
    return RawRow(number, {name: field or None for name, field in zip(columns, fields, strict=True)}, None, raw)


class _DecodedLines:
    """Lines for csv.reader, which may take several for one row: `take` says which it took since the last call."""

    def __init__(self, stream: BinaryIO, path: str) -> None:
        self.stream, self.path = stream, path
        self.taken: list[bytes] = []
        self.decoded = True
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.stream.readline(LINE_BYTES)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LINE_BYTES:
            raise UserError(
                f"{self.path} line {self.number} is longer than {LINE_BYTES >> 20} MB, expected rows on lines of "
                "their own: check its line ends"
            )
        self.taken.append(line)
        try:
            text = line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError:
            self.decoded = False
            text = line.decode("utf-8", "replace")
        return text

    def take(self) -> tuple[list[bytes], bool]:
        taken, decoded = self.taken, self.decoded
        self.taken, self.decoded = [], True
        return taken, decoded


def parquet(path: str, columns: Sequence[str] | None) -> Iterator[list[RawRow]]:
    """Batches of at most BATCH_ROWS rows, fewer where rows are large; pages are read as they are needed."""
    with pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        metadata = file.metadata
        num_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        batch_rows = max(16, min(BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(1, num_bytes)))
        number = 1
        for batch in file.iter_batches(batch_rows, columns=None if columns is None else list(columns)):
            yield _parquet_rows(batch, number)
            number += batch.num_rows


def _parquet_rows(batch: pyarrow.RecordBatch, first: int) -> list[RawRow]:
    try:
        return [RawRow(number, value) for number, value in enumerate(batch.to_pylist(), first)]
    except UnicodeDecodeError:  # Parquet promises UTF-8, its writers don't always keep it: find the rows
        return [_parquet_row(batch.slice(i, 1), first + i) for i in range(batch.num_rows)]


def _parquet_row(row: pyarrow.RecordBatch, number: int) -> RawRow:
    try:
        return RawRow(number, row.to_pylist()[0])
    except UnicodeDecodeError as error:
        return RawRow(number, None, "not_utf8", bytes(error.object))
