"""Rows that are read several times and do not fit in memory: in a temporary file, in the order in which they came."""

import pickle
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Generic, TypeVar

from pipelines.stage.disk import Scratch

ROWS_AT_ONCE = 10_000
Row = TypeVar("Row")


class Spooled(Generic[Row]):
    """Can be gone through as often as wanted, also by several at a time."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._scratch = Scratch()
        self._starts: list[int] = []
        self._last: list[Row] = []
        self._length = 0
        for row in rows:
            self.append(row)

    def append(self, row: Row) -> None:
        self._last.append(row)
        self._length += 1
        if len(self._last) >= ROWS_AT_ONCE:
            self._starts.append(self._scratch.file.seek(0, 2))
            pickle.dump(self._last, self._scratch.file, pickle.HIGHEST_PROTOCOL)
            self._last = []

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self.blocks())

    def blocks(self) -> Iterator[list[Row]]:
        """All of them, some at a time."""
        for start in self._starts:
            self._scratch.file.seek(start)
            yield pickle.load(self._scratch.file)
        if self._last:
            yield self._last
