"""Distinct texts in a temporary file: what is held of each is its id, its place in the file and its length, 44 bytes.

    texts = DistinctTexts();  texts.add(...), as often as asked;  texts[7], texts[100:200], texts.read(positions)

They stand in the order of their ids, so that nothing depends on the order in which they came. The file is read by
`pread`: what is mapped into memory would count as the process's.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pipelines.stage.disk import Scratch
from pipelines.texts.ids import text_id

TEXTS_AT_ONCE = 10_000
BUFFER_TEXTS = 1 << 16
BUFFER_BYTES = 32 << 20

Ids = NDArray[np.bytes_]  # S32


def ids_of(texts: Iterable[str]) -> Ids:
    """The ids of texts, in their order."""
    return np.array(list(map(text_id, texts)), "S32")


def places(ids: Ids, wanted: Ids) -> NDArray[np.int64]:
    """Where each of the wanted ids stands among ascending ones; -1 where it does not."""
    if not len(ids):
        return np.full(len(wanted), -1, np.int64)
    found = np.searchsorted(ids, wanted)
    return np.where(ids[np.minimum(found, len(ids) - 1)] == wanted, found, -1).astype(np.int64)


class DistinctTexts(Sequence[str]):
    """See the module. What was added counts once it is asked for."""

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._ids = np.empty(0, "S32")
        self._starts, self._lengths = np.empty(0, np.int64), np.empty(0, np.int32)
        self._end = self._buffered = 0
        self._new: dict[str, bytes] = {}

    def add(self, texts: Iterable[str]) -> None:
        for text in texts:
            key = text_id(text)
            if key not in self._new:
                self._new[key] = text.encode()
                self._buffered += len(text)
                if len(self._new) >= BUFFER_TEXTS or self._buffered >= BUFFER_BYTES:
                    self._write()

    @property
    def ids(self) -> Ids:
        """Ascending."""
        self._write()
        return self._ids

    @property
    def num_written(self) -> int:
        """Of those added, at least so many are different."""
        return len(self._ids)

    @property
    def num_bytes(self) -> int:
        """Of all texts."""
        return int(self._lengths[: len(self)].sum(dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.blocks())

    def blocks(self) -> Iterator[list[str]]:
        """All of them, some at a time."""
        return (self[start : start + TEXTS_AT_ONCE] for start in range(0, len(self), TEXTS_AT_ONCE))

    @overload
    def __getitem__(self, which: int) -> str: ...
    @overload
    def __getitem__(self, which: slice) -> list[str]: ...
    def __getitem__(self, which: int | slice) -> str | list[str]:
        if isinstance(which, slice):
            return self.read(np.arange(len(self))[which])
        return self.read(np.array([range(len(self))[which]]))[0]

    def read(self, positions: NDArray[np.integer]) -> list[str]:
        """The texts at these positions, in their order."""
        self._write()
        number = self._scratch.file.fileno()
        where = zip(self._starts[positions].tolist(), self._lengths[positions].tolist(), strict=True)
        return [os.pread(number, length, start).decode() for start, length in where]

    def positions(self, texts: Iterable[str]) -> NDArray[np.int64]:
        """Where these texts stand; -1 for one that is not here."""
        return places(self.ids, ids_of(texts))

    def only(self, positions: NDArray[np.integer]) -> "DistinctTexts":
        """Those at ascending positions, in the same file; nothing may be added to them."""
        self._write()
        some = DistinctTexts.__new__(DistinctTexts)
        some._scratch, some._end, some._buffered, some._new = self._scratch, self._end, 0, {}
        some._ids, some._starts, some._lengths = self._ids[positions], self._starts[positions], self._lengths[positions]
        return some

    def _write(self) -> None:
        """What is buffered and not there yet, by ascending id."""
        if not self._new:
            return
        ids = np.array(sorted(self._new), "S32")
        ids = ids[places(self._ids, ids) < 0]
        written = [self._new[key] for key in ids.astype(str).tolist()]
        lengths = np.array(list(map(len, written)), np.int32)
        self._scratch.file.seek(self._end)
        self._scratch.file.write(b"".join(written))
        self._scratch.file.flush()
        starts = self._end + np.cumsum(lengths, dtype=np.int64) - lengths
        at = np.searchsorted(self._ids, ids)
        self._ids = np.insert(self._ids, at, ids)
        self._starts, self._lengths = np.insert(self._starts, at, starts), np.insert(self._lengths, at, lengths)
        self._end, self._buffered, self._new = self._end + int(lengths.sum(dtype=np.int64)), 0, {}
