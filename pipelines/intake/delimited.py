"""CSV and TSV with a header: its delimiter and columns, then its rows, with quotes that quote or are plain characters.

Whether a quote quotes cannot be seen at one place of a file. `quoting` says it: "minimal", as CSV has it, or "none",
as MS MARCO's TSV has it, where one line is one row. If nobody says it, quotes quote; and where a quote goes on over
lines each of which is a row by itself, in a file that shows no other need of quotes, the file is refused: it would lose
those rows; so it is where a few fields of a TSV stand in quotes that they need not. A header that comes again, where
files were joined, is no row but `repeated_header`.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, Literal

from pipelines.intake.layouts import ROLE_OF
from pipelines.intake.raw_rows import BOM, LINE_BYTES, RawRow, open_text
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell

Quoting = Literal["minimal", "none"]
DELIMITERS = "\t,;|"

csv.field_size_limit(LINE_BYTES)  # the default, 128 KB, would refuse long passages; it is one for the whole process


@dataclass(frozen=True)
class Dialect:
    """How the lines of one file are read."""

    delimiter: str
    columns: tuple[str, ...]
    quoting: Quoting | None  # None: nobody said it

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """The fields of each row. Raises csv.Error at broken quotes and at a carriage return in a field."""
        if self.quoting == "none":
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, strict=True)

    @cached_property
    def header_words(self) -> list[str]:
        return list(map(_word, self.columns))

    @cached_property
    def longest_word(self) -> int:
        """A longer first field is none of a header's, with some space around it."""
        return 8 + max(map(len, [*self.columns, *ROLE_OF]))

    def is_header(self, fields: Sequence[str]) -> bool:
        """Whether these are the header's columns again, in some order."""
        if len(fields[0]) > self.longest_word or _word(fields[0]) not in self.header_words:
            return False
        return sorted(map(_word, fields)) == sorted(self.header_words)


def _word(name: str) -> str:
    """What a column is called, however it is written: its role, where the name is known for one."""
    word = name.strip().casefold()
    return ROLE_OF.get(word, word)


def delimiter_of(header: str, quoting: Quoting | None) -> str | None:
    """What splits the header, as CSV has it: a tab, or what gives most fields; None where nothing does."""

    def fits(delimiter: str) -> tuple[bool, bool, bool, int]:
        try:
            number, is_csv = len(next(Dialect(delimiter, (), quoting).reader(iter([header])), [])), True
        except csv.Error:
            number, is_csv = header.count(delimiter) + 1, False
        return number > 1, is_csv, delimiter == "\t", number

    best = max(DELIMITERS, key=fits)
    return best if fits(best)[0] else None


def tell_dialect(path: str, lines: Sequence[bytes], delimiter: str, quoting: Quoting | None) -> Dialect:
    """The columns that the first line names; a quoted name may go on in the lines below it."""
    try:
        first = lines[0].decode()
        others = (line.decode("utf-8", "replace") for line in lines[1:])
        fields = next(Dialect(delimiter, (), quoting).reader(iter([first, *others])))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} line 1 is not UTF-8 ({error.reason} at byte {error.start}), expected a header in UTF-8: "
            f"if it is Latin-1 or Windows-1252: iconv -f CP1252 -t UTF-8 {path} > utf8_file"
        ) from error
    except csv.Error as error:
        raise UserError(
            f"{path} line 1 is no header of columns ({error}), expected the columns' names, e.g. "
            "query,positive,negative: check its quotes and line ends, or say --quoting none"
        ) from error
    names = tuple(name.strip() for name in fields)
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise UserError(
            f"{path} line 1 names {', '.join(map(ascii, repeated))} twice, expected a header of distinct columns: "
            "rename one, or put a header above the first row, e.g. query,positive,negative"
        )
    return Dialect(delimiter, names, quoting)


def delimited(path: str, dialect: Dialect) -> Iterator[RawRow]:
    """Rows below the header; an empty field is an absent value. Raises UserError at the end if quotes are ambiguous.

    Where quotes are broken, every line up to the break is a row with the problem `not_csv`, so that a quote that is
    never closed shows as all the lines it swallowed.
    """
    with open_text(path) as stream:
        taken: list[bytes] = []
        reader = dialect.reader(_lines(stream, path, taken))
        quotes = None if dialect.quoting else _Quotes(path, dialect)
        number, first_line, header_seen = 0, 1, False
        while True:
            first_line += len(taken)
            taken.clear()
            try:
                fields: list[str] | None = next(reader, None)
                is_csv = True
            except csv.Error:
                fields, is_csv = None, False
            if not taken:
                break
            if not header_seen:
                header_seen = not b"".join(taken).isspace()
                continue
            if quotes and (len(taken) > 1 or b'"' in taken[0]):
                quotes.see(first_line, taken, len(fields or ()))
            if not is_csv:
                for line in taken:
                    number += 1
                    yield RawRow(number, None, "line_break_in_field" if dialect.quoting == "none" else "not_csv", line)
            elif fields and not (len(taken) == 1 and taken[0].isspace()):
                number += 1
                raw = b"".join(taken) if len(taken) > 1 else taken[0]
                if dialect.is_header(fields):
                    _refuse_other_order(f"{path} line {first_line:,}", dialect, fields)
                    yield RawRow(number, None, "repeated_header", raw)
                else:
                    yield _fields_row(number, dialect.columns, fields, raw)
        if quotes:
            quotes.judge(number)


def _lines(stream: BinaryIO, path: str, taken: list[bytes]) -> Iterator[str]:
    """Lines for csv.reader, which may take several for one row: it adds them to `taken`.

    A byte order mark at the start of a row is where files were joined.
    """
    number = 0
    while line := stream.readline(LINE_BYTES):
        number += 1
        if len(line) == LINE_BYTES:
            raise UserError(
                f"{path} line {number} is longer than {LINE_BYTES >> 20} MB, expected rows on lines of their own: "
                "check its line ends"
            )
        if not taken:
            line = line.removeprefix(BOM)
        taken.append(line)
        yield line.decode("utf-8", "surrogateescape")


def _refuse_other_order(place: str, dialect: Dialect, header: list[str]) -> None:
    if list(map(_word, header)) != dialect.header_words:
        raise UserError(
            f"{place} is a header again, with its columns in another order ({', '.join(header)}) than line 1 "
            f"({', '.join(dialect.columns)}): expected one header a file; split the file there"
        )


def _fields_row(number: int, columns: tuple[str, ...], fields: list[str], raw: bytes) -> RawRow:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return RawRow(number, None, "not_utf8", raw)
    if len(fields) != len(columns):
        return RawRow(number, None, "wrong_number_of_fields", raw)
    return RawRow(number, {name: field or None for name, field in zip(columns, fields, strict=True)}, None, raw)


class _Quotes:
    """What the quotes of a file speak for, as long as nobody said it."""

    def __init__(self, path: str, dialect: Dialect) -> None:
        self.path, self.num_fields = path, len(dialect.columns)
        self.delimiter = dialect.delimiter.encode()
        self.all_quoted = b'"' + self.delimiter + b'"'
        # no comma in it either: Excel puts such fields into quotes in TSV, too
        self.needless_field = re.compile(rb'(?:^|\%b)"[^",%b\r\n]+"(?:\%b|\r?\n|$)' % ((self.delimiter,) * 3))
        self.needed = self.needless = self.swallowing = self.broken = 0
        self.example = self.needless_example = ""

    def see(self, first_line: int, taken: Sequence[bytes], num_fields: int) -> None:
        """One record with quotes, which was read as `num_fields` fields (0: not at all)."""
        lines = [line for line in taken if not line.isspace()]
        rows = sum(line.count(self.delimiter) == self.num_fields - 1 for line in lines)
        if len(lines) > 1 and rows >= 0.9 * len(lines):  # a long run may hold a bad row
            self.swallowing += 1
            self.example = self.example or f"line {first_line:,} opens a quote that takes in {len(lines):,} lines"
        elif num_fields == self.num_fields and (rows < len(lines) or self._are_all_quoted(taken[0])):
            self.needed += 1
        elif num_fields == self.num_fields and self.needless_field.search(taken[0]):
            self.needless += 1
            self.needless_example = self.needless_example or f"line {first_line:,}"
        elif not num_fields and rows == len(lines):
            self.broken += 1

    def _are_all_quoted(self, line: bytes) -> bool:
        return line.startswith(b'"') and line.count(self.all_quoted) == self.num_fields - 1

    def judge(self, num_rows: int) -> None:
        """Raise UserError where more records are whole rows swallowed by a quote than have or need quotes.

        So too where a few rows of a TSV, not all, have a field in quotes that needs none, as no program writes it.
        """
        if self.swallowing > self.needed:
            raise UserError(
                f"{self.path}: {self.example}, each of them a row by itself ({self.swallowing:,} such places), "
                "expected to know what a quote is here: --quoting none if it is a character like any other, one row a "
                "line, as in MS MARCO's TSV; --quoting minimal if fields in quotes do hold line breaks"
            )
        if self.needed < self.needless < num_rows / 2:
            place = f"{self.needless:,} of {num_rows:,} rows, the first at {self.needless_example}"
            told = f"{self.path}: {place}, have a field in quotes that needs none"
            if self.delimiter == b"\t":
                raise UserError(
                    f"{told}, expected to know what a quote is: --quoting none if it is a character like any other, "
                    "as in MS MARCO's TSV; --quoting minimal if it is no part of the text"
                )
            tell(f"{told}: they are taken off; if they are part of the text, give --quoting none")
        if self.broken:
            tell(
                f"{self.path}: {self.broken:,} rows have quotes that CSV does not know: quarantined as not_csv; "
                "if quotes are plain characters there, give --quoting none"
            )
