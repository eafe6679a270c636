"""How fast the real teacher reads: counted and timed by an actor on texts of chunks that a run would send it.

    a chunk's texts --sorted longest first, in batches, as the teacher does--> batches evenly spaced over it --timed

So the timed ones have the chunk's lengths, its padding and the teacher's own way of working, and loading is not among
them. All actors of a run time at once, since they share the machine's memory and caches.
"""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.scoring.streams import TeacherStream
from pipelines.scoring.workload import to_read
from pipelines.stage.sample import sums
from pipelines.storage import QueryRange
from pipelines.teachers.bi_encoder import BiEncoderTeacher, TextKind
from pipelines.teachers.cross_encoder import CrossEncoderTeacher
from pipelines.texts.ids import encoding_error
from pipelines.texts.token_batches import token_batches

ROUNDS = 3
ROUND_S = 5.0
"""A round times about so many seconds of batches; together the rounds take little more, however slow the teacher."""
MIN_BATCHES = 3
MOST_READ = 50_000
"""Texts, or pairs, of one actor's sample."""


class Pace(NamedTuple):
    """How fast an actor reads a chunk."""

    tokens: float  # per second, as the median of the rounds tells
    slowest: float  # the rounds' range
    fastest: float


class Reader:
    """A stream's teacher on an actor."""

    def __init__(self, stream: TeacherStream, threads: int | None) -> None:
        self.teacher, self.stream = stream.load_teacher(threads), stream
        self.teacher.check_model()  # the first text that a model reads takes longest
        self.texts, self.lengths = pl.DataFrame(), np.zeros(0, dtype=np.int64)

    def count(self, chunks: Sequence[QueryRange]) -> pl.DataFrame:
        """One row: `stage.sample.sums` of the tokens read and the texts cut, of these chunks or MOST_READ."""
        of_chunks = [to_read(self.stream, one).with_columns(chunk=number) for number, one in enumerate(chunks)]
        self.texts = pl.concat(of_chunks).head(MOST_READ).sort("chunk", "kind", maintain_order=True)
        counted = [self._count(kind, rows) for kind, rows in _parts(self.texts)]
        none = np.zeros(0, dtype=np.int32)
        self.lengths = np.concatenate([none, *(read for read, _ in counted)]).astype(np.int64)
        cut = np.concatenate([none, *(cut for _, cut in counted)]) > 0
        one = pl.DataFrame({"cluster": self.texts["cluster"], "tokens": self.lengths, "cut": cut}).with_columns(one=1)
        clusters = one.group_by("cluster").agg(pl.col("tokens", "cut", "one").sum())
        told = [clusters.select(**sums(of, "one")).select(pl.all().name.prefix(f"{of}_")) for of in ("tokens", "cut")]
        return pl.concat(told, how="horizontal")

    def time(self) -> Pace:
        """Of what was counted last, which is something."""
        batches, started = self._batches(), time.monotonic()
        first = self._seconds([batches[len(batches) // 2]])
        wanted = min(len(batches), max(MIN_BATCHES, round(ROUND_S / first)))
        rates = list[float]()
        while len(rates) < ROUNDS and (not rates or time.monotonic() - started < ROUNDS * ROUND_S):
            chosen = spaced(len(batches), wanted, (len(rates) + 0.5) / ROUNDS)
            of_sample, of_all = (self._padded(some) for some in ([batches[one] for one in chosen], batches))
            seconds = self._seconds([batches[one] for one in chosen]) * of_all / of_sample
            rates.append(float(self.lengths.sum()) / seconds)
        return Pace(float(np.median(rates)), min(rates), max(rates))

    def _count(self, kind: str, rows: pl.DataFrame) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        texts = rows["text"].to_list()
        if kind == "pair":
            return cast(CrossEncoderTeacher, self.teacher).count_tokens(rows["query"].to_list(), texts)
        readable = ["" if encoding_error(text) else text for text in texts]
        return cast(BiEncoderTeacher, self.teacher).count_tokens(readable, cast(TextKind, kind))

    def _batches(self) -> list[NDArray[np.int64]]:
        """Rows of `texts`, of one chunk and kind each, as a run would have them."""
        batches, start = list[NDArray[np.int64]](), 0
        for _, rows in _parts(self.texts):
            lengths = self.lengths[start : start + len(rows)]
            batches += [start + batch for batch in token_batches(lengths, self.teacher.batch_tokens)]
            start += len(rows)
        return batches

    def _padded(self, batches: Sequence[NDArray[np.int64]]) -> int:
        return sum(len(batch) * max(1, int(self.lengths[batch[0]])) for batch in batches)

    def _seconds(self, batches: Sequence[NDArray[np.int64]]) -> float:
        """The teacher puts the texts of whole batches into the same batches again."""
        texts, started = self.texts[np.concatenate(batches)], time.monotonic()
        for kind, rows in _parts(texts):
            if kind == "pair":
                self.teacher.score(rows["query"].to_list(), rows["text"].to_list())
            else:
                cast(BiEncoderTeacher, self.teacher).embed(rows["text"].to_list(), cast(TextKind, kind))
        return max(time.monotonic() - started, 1e-6)


def _parts(texts: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """What the teacher is given at once, with its kind: the texts of one kind of a chunk."""
    for (_, kind), rows in texts.group_by("chunk", "kind", maintain_order=True):
        yield str(kind), rows


def spaced(total: int, wanted: int, offset: float) -> list[int]:
    """So many of `total` places, evenly spaced; offset 0 to 1 moves them between the first and the last of a space."""
    return [int((place + offset) * total / wanted) for place in range(wanted)]
