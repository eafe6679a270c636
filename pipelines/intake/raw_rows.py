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
    raw: bytes | None = None  # None in Parquet and Arrow: the value itself is what was found


def open_bytes(path: str, compression: str | None) -> io.BufferedReader:
    """The file's content, uncompressed."""
    raw = pyarrow.CompressedInputStream(pyarrow.OSFile(path), compression) if compression else io.FileIO(path)
    return io.BufferedReader(raw, 1 << 20)


def open_text(path: str, compression: str | None) -> io.BufferedReader:
    """The file's content behind its byte order mark, if it has one."""
    stream = open_bytes(path, compression)
    if stream.peek(len(BOM)).startswith(BOM):
        stream.read(len(BOM))
    return stream


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


def numbered_lines(path: str, compression: str | None) -> Iterator[tuple[int, bytes]]:
    """(number, line) of each line that is not blank; of a line too long for memory its first LINE_BYTES."""
    with open_text(path, compression) as stream:
        number = 0
        while line := stream.readline(LINE_BYTES):
            number += 1
            rest = line
            while _is_cut(rest):
                rest = stream.readline(LINE_BYTES)
            if not line.isspace():
                yield number, line


def _is_cut(line: bytes) -> bool:
    return len(line) == LINE_BYTES and not line.endswith(b"\n")


def json_lines(path: str, compression: str | None) -> Iterator[RawRow]:
    return (_json_row(number, line) for number, line in numbered_lines(path, compression))


def _json_row(number: int, line: bytes) -> RawRow:
    if _is_cut(line):
        return RawRow(number, None, "line_too_long", line[: 1 << 16])
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
        taken: list[bytes] = []
        reader = csv.reader(_lines(stream, path, taken), delimiter=delimiter, strict=True)
        number, header_seen = 0, False
        while True:
            taken.clear()
            try:
                is_csv, fields = True, next(reader, None)
            except csv.Error:
                is_csv, fields = False, None
            if not taken:
                return
            if not header_seen:
                header_seen = any(fields or [])
            elif not is_csv:
                for line in taken:
                    number += 1
                    yield RawRow(number, None, "not_csv", line)
            elif fields and not b"".join(taken).isspace():
                number += 1
                yield _fields_row(number, columns, fields, b"".join(taken))


def _lines(stream: BinaryIO, path: str, taken: list[bytes]) -> Iterator[str]:
    """Lines for csv.reader, which may take several for one row: it adds them to `taken`."""
    number = 0
    while line := stream.readline(LINE_BYTES):
        number += 1
        if len(line) == LINE_BYTES:
            raise UserError(
                f"{path} line {number} is longer than {LINE_BYTES >> 20} MB, expected rows on lines of their own: "
                "check its line ends"
            )
        taken.append(line)
        yield line.decode("utf-8", "surrogateescape")


def _fields_row(number: int, columns: tuple[str, ...], fields: list[str], raw: bytes) -> RawRow:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return RawRow(number, None, "not_utf8", raw)
    if len(fields) != len(columns):
        return RawRow(number, None, "wrong_number_of_fields", raw)
    return RawRow(number, {name: field or None for name, field in zip(columns, fields, strict=True)}, None, raw)


def parquet(path: str, columns: Sequence[str] | None) -> Iterator[list[RawRow]]:
    """Batches of at most BATCH_ROWS rows, fewer where rows are large; pages are read as they are needed."""
    with pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        metadata = file.metadata
        num_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        batch_rows = max(16, min(BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(1, num_bytes)))
        number = 1
        for batch in file.iter_batches(batch_rows, columns=None if columns is None else list(columns)):
            yield record_rows(batch, number)
            number += batch.num_rows


def record_rows(batch: pyarrow.RecordBatch, first: int) -> list[RawRow]:
    """The batch's rows, numbered from `first`."""
    try:
        return [RawRow(number, value) for number, value in enumerate(batch.to_pylist(), first)]
    except UnicodeDecodeError as error:  # it promises UTF-8, its writers don't always keep it: find the rows
        if batch.num_rows == 1:
            return [RawRow(first, None, "not_utf8", bytes(error.object))]
        return [row for i in range(batch.num_rows) for row in record_rows(batch.slice(i, 1), first + i)]
