"""Files of plain texts: one column of any file that intake knows, its good texts batch by batch.

A text is checked as those of triplets are, and never changed; bad ones are left out and counted, and a file with too
many of them is refused.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.intake.input_files import InputFile
from pipelines.intake.layouts import RowChecks, shown_name, text_problem
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.progress import tell


def read_texts(file: InputFile, column: str, checks: RowChecks) -> Iterator[list[str]]:
    """The good texts of a file, in its order, repeated ones as often as they come.

    Raises:
        UserError: no such column, or more bad rows than `max_bad_share`.
    """
    opened = file.open()
    if opened.columns is not None and column not in opened.columns:
        raise _no_column(file, column, opened.columns)
    seen: dict[str, None] = {}
    num_rows = num_bad = 0
    for batch in opened.batches(None if opened.columns is None else [column]):
        values = [row.value or {} for row in batch]
        if opened.columns is None and column not in seen:
            seen.update(dict.fromkeys(key for value in values for key in value))
        texts: list[Any] = [value.get(column) for value in values]
        good = [text for text in texts if text_problem(text, checks.max_text_chars) is None]
        num_rows, num_bad = num_rows + len(batch), num_bad + len(batch) - len(good)
        yield good
    if opened.columns is None and column not in seen:
        raise _no_column(file, column, seen)
    say_what_is_left_out(file, num_bad, num_rows, checks, what="texts", stage="ingest")


def say_what_is_left_out(
    file: InputFile, num_bad: int, num_rows: int, checks: RowChecks, *, what: str, stage: str
) -> None:
    """How many texts of a file were bad. Raises UserError when they are more than the stage's `max_bad_share`."""
    if num_bad > checks.max_bad_share * num_rows:
        raise UserError(
            f"{file.path}: {num_bad:,} of {num_rows:,} {what} are blank, no text or over {checks.max_text_chars:,} "
            f"characters, expected at most {checks.max_bad_share:.1%}: repair the file, or raise {stage}.max_bad_share"
        )
    if num_bad:
        tell(f"{file.path}: {num_bad:,} of {num_rows:,} {what} left out: blank, no text or too long")


def _no_column(file: InputFile, column: str, found: Iterable[str]) -> UserError:
    return UserError(
        f"{file.path} has the columns {first_of(map(shown_name, found), 30)}, expected {shown_name(column)}: say which "
        "one holds the texts, as in --columns text=title"
    )
