"""Files of any known format in, batches of raw rows out, in constant memory.

JSON Lines and CSV/TSV with a header (each plain, gzip or zstd), Parquet and Arrow, told by what a file holds, not by
its ending. A row that cannot be read comes out with its problem; a file that cannot be read is a UserError that says
what was found, what was expected and what to do.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet

from pipelines.intake.arrow_files import MAGIC, arrow, arrow_columns
from pipelines.intake.delimited import Quoting, delimited, delimiter_of, tell_dialect
from pipelines.intake.raw_rows import LINE_BYTES, RawRow, compression_of, in_batches, json_lines, open_text, parquet
from pipelines.stage.errors import UserError

EXPECTED = "JSON Lines or CSV/TSV with a header (plain, gzip or zstd), Parquet or Arrow"
DATA_ENDINGS = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".gz", ".zst"}
DATA_ENDINGS |= {".arrow", ".arrows", ".feather", ".ipc"}
OTHER_CONTENT = {  # how a file begins -> what it is, what to do
    rb"version https://git-lfs\.github\.com/spec/": ("a Git LFS pointer in place of the data", "git lfs pull"),
    rb"<(!doctype|!--|html|head|body|\?xml|error)": ("a page of HTML or XML in place of the data", "fetch it again"),
    rb"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or save it as CSV"),
    rb"BZh\d1AY": ("compressed by bzip2", "bunzip2 it"),
    rb"\xfd7zXZ": ("compressed by xz", "unxz it"),
    rb"Obj\x01|ORC[\0-\x1f]": ("Avro or ORC", "convert it to Parquet"),
}


class WithoutRows(UserError):
    """A file that is whole and holds nothing: beside others that hold rows it is no mistake."""


@dataclass(frozen=True)
class Input:
    """Where rows come from, once it is known how to read them: the only thing that stages know of an input's kind."""

    path: str
    columns: tuple[str, ...] | None  # Parquet's and CSV's; None in JSON Lines, where each row has keys of its own
    read: Callable[[Sequence[str] | None], Iterator[list[RawRow]]]  # given the columns that are wanted; None: all

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[list[RawRow]]:
        """Rows in file order; Parquet reads only `columns`. Raises UserError where the file breaks off."""
        row = 0
        try:
            for batch in self.read(columns):
                yield batch
                row = batch[-1].number
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(
                f"{self.path} breaks off or is damaged after row {row:,}: {error}; expected a whole file, "
                "so nothing of this input was taken: fetch it or write it again"
            ) from error


def open_file(path: str, quoting: Quoting | None = None) -> Input:
    """Tell a file's format by its content; what a quote is in CSV and TSV may be said (see delimited.py)."""
    try:
        with Path(path).open("rb") as stream:
            magic = stream.read(4)
        if magic == b"PAR1":
            with pyarrow.parquet.ParquetFile(path) as file:
                return _tell_parquet(path, file)
        if magic in MAGIC:
            return Input(path, arrow_columns(path), partial(arrow, path))
        with open_text(path) as stream:
            first_lines = _first_lines(stream)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} cannot be read ({error}), expected {EXPECTED}: fetch it or write it again") from error
    if not first_lines:
        found = "holds only blank lines" if magic and not compression_of(path) else "is empty"
        raise WithoutRows(f"{path} {found}, expected rows as {EXPECTED}: leave it out or give another file")
    return _tell_text(path, first_lines, quoting)


def _tell_parquet(path: str, file: pyarrow.parquet.ParquetFile) -> Input:
    if file.metadata.num_rows == 0:
        raise WithoutRows(f"{path} is Parquet without rows, expected rows: leave it out or give another file")
    names = tuple(file.schema_arrow.names)
    repeated = [name for name, number in Counter(names).items() if number > 1]
    if repeated:
        raise UserError(
            f"{path} has {', '.join(map(_shown, repeated))} twice, expected distinct columns: rename one, or put both "
            "into one column as a list"
        )
    return Input(path, names, partial(parquet, path))


def _tell_text(path: str, lines: list[bytes], quoting: Quoting | None) -> Input:
    first = lines[0].decode("utf-8", "replace").strip()
    _refuse_other_content(path, lines[0].lstrip())
    has_objects = any(isinstance(_json(line), dict) for line in lines)
    is_bad_row = has_objects and _json(first.encode()) is not None  # a line [1] among objects
    if first.startswith("[") and not is_bad_row:
        raise UserError(
            f"{path} begins with '[': found one JSON array, expected one JSON object a line: "
            f"jq -c '.[]' {path} > rows.jsonl"
        )
    if first.startswith("{") and "\0" not in first and not has_objects:
        _find_object(path, first)
        has_objects = True
    if has_objects:
        return Input(path, None, lambda _: in_batches(json_lines(path)))
    delimiter = delimiter_of(first, quoting)
    if b"\0" in lines[0] or delimiter is None:
        raise UserError(_unknown_format(path, lines[0]))
    dialect = tell_dialect(path, lines, delimiter, quoting)
    return Input(path, dialect.columns, lambda _: in_batches(delimited(path, dialect)))


def _refuse_other_content(path: str, first: bytes) -> None:
    for beginning, (found, what_to_do) in OTHER_CONTENT.items():
        if re.match(beginning, first, re.IGNORECASE):
            raise UserError(f"{path} is {found}, expected {EXPECTED}: {what_to_do}")


def _find_object(path: str, first: str) -> None:
    """Raise UserError if no line at all holds a JSON object, however many bad ones come first."""
    number = 0
    for row in json_lines(path):
        number += 1
        if row.problem in (None, "repeated_key"):
            return
    raise UserError(
        f"{path} begins with {_shown(first)}: found no JSON object on any of its {number:,} lines, expected one on "
        f"each line: if its objects span several lines, jq -c . {path} > rows.jsonl; if a comma ends each line, "
        f"sed 's/,$//' {path} > rows.jsonl"
    )


def _unknown_format(path: str, line: bytes) -> str:
    shown = _shown(line.decode("utf-8", "replace").strip())
    told = f"{path} begins with {shown}: found neither of the known formats, expected {EXPECTED}"
    compression = compression_of(path)
    if compression and line.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1")):
        return f"{told}: it is packed once more inside its {compression}: unpack it"
    if b"\0" in line:
        return (
            f"{told}: if it is text in UTF-16 without a byte order mark, iconv -f UTF-16LE -t UTF-8 {path} > utf8_file"
        )
    return told


def _json(line: bytes) -> Any:
    """The line's value; None where it is no JSON."""
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError):
        return None


def _shown(text: str) -> str:
    """Any text on one line of any terminal."""
    return ascii(text[:80]) if not text.isprintable() else repr(text[:80])


def _first_lines(stream: BinaryIO) -> list[bytes]:
    """The first lines that are not blank, fewer where they are very long."""
    lines: list[bytes] = []
    num_bytes = 0
    while len(lines) < 20 and num_bytes < LINE_BYTES and (line := stream.readline(LINE_BYTES)):
        if not line.isspace():
            lines.append(line)
            num_bytes += len(line)
    return lines
