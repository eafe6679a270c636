"""The passages negatives are mined from: distinct texts in memory, in an order of their own, and files of them.

Memory: the texts themselves plus about 250 bytes each; the index over them comes on top (pipelines/search/bm25.py).
"""

import sys
from collections.abc import Iterable, Iterator

from pipelines.intake.formats import find_files, open_file
from pipelines.intake.layouts import RowChecks, text_problem, title_and_text
from pipelines.stage.errors import UserError
from pipelines.texts.ids import text_id


class Passages:
    """Distinct texts sorted by id, so that nothing depends on the order in which they came."""

    def __init__(self, texts: Iterable[str], max_passages: int) -> None:
        by_id: dict[str, str] = {}
        for text in texts:
            by_id.setdefault(text_id(text), text)
            if len(by_id) > max_passages:
                raise UserError(
                    f"found more than {max_passages:,} distinct passages, expected at most that many, as they are held "
                    "in memory: give fewer, or raise mine.max_passages on a machine with the memory (about 2.5 KB each)"
                )
        self.texts = [by_id[key] for key in sorted(by_id)]
        self.stripped_ids = [stripped_id(text) for text in self.texts]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def num_bytes(self) -> int:
        """About what they take in memory."""
        return sum(map(sys.getsizeof, self.texts)) + 150 * len(self.texts)


def stripped_id(text: str) -> str:
    """One id for texts that differ only in the space around them: as a negative each is as wrong as the other."""
    return text_id(text.strip())


def read_passages(path: str, checks: RowChecks) -> Iterator[str]:
    """The texts of a file or folder with a column text or passage, and perhaps title; bad rows are left out, counted.

    Raises:
        UserError: no such column, or more bad rows than `max_bad_share`.
    """
    for file in find_files([path]):
        opened = open_file(file)
        column = next((name for name in ("text", "passage") if name in opened.columns), None)
        if column is None:
            found = ", ".join(map(ascii, opened.columns[:30]))
            raise UserError(f"{file} has the columns {found}; expected text or passage, and perhaps title: rename one")
        rows = bad = 0
        for batch in opened.batches([name for name in (column, "title") if name in opened.columns]):
            rows += len(batch)
            for row in batch:
                value = row.value or {}
                text = title_and_text({"title": value.get("title"), "text": value.get(column)})
                if text_problem(text, checks.max_text_chars):
                    bad += 1
                else:
                    yield text
        if bad > checks.max_bad_share * rows:
            raise UserError(
                f"{file}: {bad:,} of {rows:,} passages are blank, no text or over {checks.max_text_chars:,} "
                f"characters, expected at most {checks.max_bad_share:.1%}: repair the file, or raise mine.max_bad_share"
            )
        if bad:
            print(f"{file}: {bad:,} of {rows:,} passages left out: blank, no text or too long", file=sys.stderr)
