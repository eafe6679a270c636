"""The rows of one file, as found: batches of numbered raw rows, in constant memory.

A row that cannot be read comes out with its problem: `not_json`, `not_an_object`, `repeated_key`, `line_too_long` (JSON
Lines), `not_csv`, `wrong_number_of_fields`, `repeated_header`, `line_break_in_field` (CSV, see delimited.py),
`unreadable_value` (Parquet), `not_utf8`. Damage to the file itself is raised by the library that meets it; formats.py
says what to do about it. Rows count from 1: lines in JSON Lines (blank lines count, but are no rows), rows below the
header in CSV, rows in Parquet.
"""

import codecs
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from pipelines.stage.errors import UserError

BATCH_ROWS = 10_000
BATCH_BYTES = 32 << 20
LINE_BYTES = 64 << 20  # the longest line that is held in memory
BOM = b"\xef\xbb\xbf"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class RawRow(NamedTuple):
    """One row as found: its value, or the problem that kept it from having one."""

    number: int
    value: dict[str, Any] | None
    problem: str | None = None
    raw: bytes | None = None  # None in Parquet and Arrow: the value itself is what was found


def compression_of(path: str) -> str | None:
    """gzip or zstd, told by how the file begins."""
    with Path(path).open("rb") as stream:
        start = stream.read(4)
    return "gzip" if start[:2] == b"\x1f\x8b" else "zstd" if start == b"\x28\xb5\x2f\xfd" else None


def open_bytes(path: str) -> io.BufferedReader:
    """The file's content, uncompressed."""
    compression = compression_of(path)
    raw = pyarrow.CompressedInputStream(pyarrow.OSFile(path), compression) if compression else io.FileIO(path)
    return io.BufferedReader(raw, 1 << 20)


def open_text(path: str) -> io.BufferedReader:
    """The file's content in UTF-8 behind its byte order mark, if it has one; UTF-16 is told by its mark."""
    stream = open_bytes(path)
    start = stream.peek(4)[:4]
    if start.startswith(UTF_32):
        stream.close()
        raise UserError(f"{path} is UTF-32, expected UTF-8 or UTF-16: iconv -f UTF-32 -t UTF-8 {path} > utf8_file")
    if start.startswith(UTF_16):
        return io.BufferedReader(_FromUtf16(stream), 1 << 20)
    if start.startswith(BOM):
        stream.read(len(BOM))
    return stream


class _FromUtf16(io.RawIOBase):
    """UTF-16 as UTF-8; half a surrogate pair becomes bytes that are no UTF-8, so that its row alone is bad."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream, self._left = stream, b""
        self._decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            read = self._stream.read(1 << 18)
            try:
                self._left = self._decoder.decode(read, final=not read).encode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise OSError(f"half a character of UTF-16 at its end ({error.reason})") from error
            if not read:
                break
        taken, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        self._stream.close()
        super().close()


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


def numbered_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """(number, line) of each line that is not blank; of a line too long for memory its first LINE_BYTES."""
    with open_text(path) as stream:
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


def json_lines(path: str) -> Iterator[RawRow]:
    return (_json_row(number, line) for number, line in numbered_lines(path))


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)  # NaN is how a table without a value is written


class _RepeatedKey(ValueError):
    """An object with two values under one key: JSON does not say which one counts."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs) and any(value[key] != other for key, other in pairs):
        raise _RepeatedKey
    return value


# json.loads would look for space around, at a cost
_decode = json.JSONDecoder(parse_constant=_constant, object_pairs_hook=_distinct).raw_decode


def _json_row(number: int, line: bytes) -> RawRow:
    if _is_cut(line):
        return RawRow(number, None, "line_too_long", line[: 1 << 16])
    try:
        text = line.removeprefix(BOM).strip(b" \t\r\n").decode()  # a byte order mark is where files were joined
        value, end = _decode(text)
        if end < len(text):
            return RawRow(number, None, "not_json", line)
        if not isinstance(value, dict):
            return RawRow(number, None, "not_an_object", line)
    except UnicodeDecodeError:
        return RawRow(number, None, "not_utf8", line)
    except _RepeatedKey:
        return RawRow(number, None, "repeated_key", line)
    except (ValueError, RecursionError):
        return RawRow(number, None, "not_json", line)
    return RawRow(number, value, None, line)


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
        values = batch.to_pylist()
        if any(map(_has_binary, batch.schema.types)):
            values = [_with_text(value) for value in values]
        return [RawRow(number, value) for number, value in enumerate(values, first)]
    except (ValueError, OverflowError) as error:  # no UTF-8, though promised, or no Python value: find the rows
        if batch.num_rows == 1 and isinstance(error, UnicodeDecodeError):
            return [RawRow(first, None, "not_utf8", bytes(error.object))]
        if batch.num_rows == 1:
            return [RawRow(first, None, "unreadable_value", str(error).encode())]
        return [row for i in range(batch.num_rows) for row in record_rows(batch.slice(i, 1), first + i)]


def _has_binary(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_dictionary(kind):
        return _has_binary(kind.value_type)
    is_text = pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind) or pyarrow.types.is_binary_view(kind)
    return is_text or any(_has_binary(kind.field(i).type) for i in range(kind.num_fields))


def _with_text(value: Any) -> Any:
    """Bytes as the UTF-8 that they are where a writer has not said so. Raises UnicodeDecodeError."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {key: _with_text(inner) for key, inner in value.items()}
    return [_with_text(inner) for inner in value] if isinstance(value, list) else value
