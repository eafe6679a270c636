"""Rows of a JSON Lines or Parquet file that must all be good, each with its place for messages, as BEIR's are.

records   file -> (file:line, row)         lines   file -> (file:line, line), of text files, plain or gzip
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow

from pipelines.intake.raw_rows import numbered_lines, parquet
from pipelines.stage.errors import UserError

RECORD_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")


def lines(file: Path) -> Iterator[tuple[str, str]]:
    """(place, line) of each line that is not blank; the place is file:line for messages."""
    place = ""
    try:
        for number, line in numbered_lines(str(file)):
            place = f"{file}:{number}"
            yield place, line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file}: not a whole gzip file ({error}); copy it again") from error


def records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a JSON Lines or Parquet file."""
    if file.suffix == ".parquet":
        yield from _parquet_records(file)
        return
    for place, line in lines(file):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: no JSON ({error}): {line[:80]!r}") from error
        if not isinstance(row, dict):
            raise UserError(f'{place}: found a JSON {type(row).__name__}; expected an object with "_id" and "text"')
        yield place, row


def _parquet_records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        for batch in parquet(str(file), None):
            for number, value, problem, _ in batch:
                if value is None:
                    raise UserError(f"{file} row {number}: {problem}; write the file again as UTF-8")
                yield f"{file} row {number}", value
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file}: not a whole Parquet file ({error}); copy it again") from error


def shown_files(folder: Path) -> str:
    """The first files of a folder, for messages."""
    there = sorted(path.name for path in folder.iterdir())[:10] if folder.is_dir() else []
    return ", ".join(there) or "nothing"
