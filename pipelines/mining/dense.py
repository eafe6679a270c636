"""Dense ranking: a bi-encoder's vectors of all queries and passages, each encoded once, compared by cosine: exactly,
or, where a recall is said, by an index (pipelines/search/approximate.py).

    queries, passages  --pipelines/streaming-->  teacher_vectors@v  --block by block-->  Hits, cosines of given pairs

No vector stands in memory longer than its block: beside the texts there are one block of passages, the vectors of the
queries at hand and their best `k`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.mining.passages import Passages
from pipelines.search.approximate import QUERIES_ASKED, ApproximateIndex
from pipelines.search.bm25 import Hits
from pipelines.search.exact import Nearest, nearest
from pipelines.search.stored_vectors import read_vectors, stored_width
from pipelines.stage.errors import UserError
from pipelines.stage.progress import Progress
from pipelines.storage import TableVersion
from pipelines.texts.on_disk import DistinctTexts

if TYPE_CHECKING:
    from pipelines.teachers.bi_encoder import TextKind

BLOCK = 1 << 14
"""Passages whose vectors are read at a time: 25 MB where they have 384 dimensions."""

PAIRS_AT_ONCE = 1 << 15
QUERIES_COMPARED = 512  # with a block of passages at a time: 32 MB of cosines
SAME_COSINE = 1e-6
"""Above what a passage's own cosine differs by where it is computed another way."""

SOME_IDS = 100
LIKE_QUERIES = 32
"""Most queries that count as like one, itself included."""


class Stored(NamedTuple):
    """An encoder's vectors of texts of one kind, in the order of their ids."""

    version: TableVersion
    encoder: str
    kind: "TextKind"
    ids: NDArray[np.bytes_]
    dimension: int

    def read(self, which: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """(texts, dimension) of some texts by their places; NaN where one could not be encoded."""
        text_ids = self.ids[which].astype(str).tolist()
        return read_vectors(self.version, self.encoder, self.kind, text_ids, self.dimension)

    def blocks(self, stop: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Of all texts, or the first ones, which are a sample: ids are hashes."""
        stop = min(len(self.ids), len(self.ids) if stop is None else stop)
        for start in range(0, stop, BLOCK):
            yield self.read(slice(start, min(start + BLOCK, stop)))


@dataclass
class DenseIndex:
    """Queries and passages by one encoder."""

    queries: Stored
    passages: Stored
    recall: float | None = None  # of an index that ranks the passages; None: all are compared
    _built: ApproximateIndex | None = None

    def rank(
        self, start: int, stop: int, k: int, pairs: NDArray[np.int64], progress: Progress
    ) -> tuple[Hits, NDArray[np.float32]]:
        """The k nearest passages of each query from start to stop, and the cosine of each pair: NaN without vectors.

        A query or a passage that could not be encoded is near to nothing: its positions are -1.

        Args:
            pairs: (pairs, 2): query, counted from start, and position of the passage.
        """
        query, passage = pairs.T
        vectors = self.queries.read(slice(start, stop))
        if self.recall is not None:
            return self._found(vectors, k, progress), self._cosines(vectors, query, passage)
        cosines = np.full(len(pairs), np.nan, np.float32)
        by_passage = np.argsort(passage, kind="stable")
        ascending = passage[by_passage]
        is_encoded = np.ones(len(self.passages.ids), bool)

        def blocks() -> Iterator[NDArray[np.float32]]:
            for number, block in enumerate(self.passages.blocks()):
                first = number * BLOCK
                is_encoded[first : first + len(block)] = ~np.isnan(block[:, 0])
                ours = by_passage[slice(*np.searchsorted(ascending, [first, first + len(block)]))]
                cosines[ours] = _cosines(vectors, block, query[ours], passage[ours] - first)
                yield block
                progress.advance(len(block))

        found = nearest(vectors, blocks(), [self.passages.dimension], k)[self.passages.dimension]
        return _hits(found, is_encoded, vectors, k), cosines

    def _found(self, vectors: NDArray[np.float32], k: int, progress: Progress) -> Hits:
        """Of each query the k nearest passages that the index finds."""
        index = self._index(k)
        hits = _hits(index.top(vectors, min(k, len(self.passages.ids))), index.is_encoded, vectors, k)
        progress.advance(len(self.passages.ids))
        return hits

    def _index(self, k: int) -> ApproximateIndex:
        """Built when first asked for: the recall is that of the k nearest of the first queries, a sample."""
        if self._built is None:
            assert self.recall is not None, "asked for only then"
            passages = self.passages
            self._built = ApproximateIndex(passages.blocks, len(passages.ids), passages.dimension)
            some = self.queries.read(slice(0, QUERIES_ASKED))
            self._built.reach(self.recall, some[~np.isnan(some[:, 0])], min(k, len(passages.ids)))
        return self._built

    def _cosines(
        self, vectors: NDArray[np.float32], query: NDArray[np.int64], passage: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Of pairs, whose passages are read for it, a block at a time."""
        cosines = np.full(len(query), np.nan, np.float32)
        unique, place = np.unique(passage, return_inverse=True)
        for first in range(0, len(unique), BLOCK):
            block = self.passages.read(unique[first : first + BLOCK])
            ours = np.flatnonzero((place >= first) & (place < first + BLOCK))
            cosines[ours] = _cosines(vectors, block, query[ours], place[ours] - first)
        return cosines

    def count_nearer(self, pairs: NDArray[np.int64], sample: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Of each (query, passage), ascending by query: how many of the first `sample` passages are nearer to the query
        than the passage, and its cosine: NaN where one of the two has no vector."""
        nearer, cosines = np.zeros(len(pairs), np.int64), np.full(len(pairs), np.nan, np.float32)
        starts = range(0, len(pairs), PAIRS_AT_ONCE)
        progress = Progress(
            "mine: consistency", "passages compared", done=0, total=len(starts) * min(sample, len(self.passages.ids))
        )
        for start in starts:
            part = slice(start, start + PAIRS_AT_ONCE)
            query, passage = pairs[part].T
            vectors = self.queries.read(slice(query[0], query[-1] + 1))
            cosines[part] = self._cosines(vectors, query - query[0], passage)
            queries = vectors[query - query[0]]
            limits = cosines[part, None] + SAME_COSINE
            for block in self.passages.blocks(sample):
                for first in range(0, len(queries), QUERIES_COMPARED):
                    rows = slice(first, first + QUERIES_COMPARED)
                    is_nearer = queries[rows] @ block.T > limits[rows]  # NaN is near to nothing
                    nearer[part][rows] += np.count_nonzero(is_nearer, axis=1)
                progress.advance(len(block))
        return nearer, cosines

    def like_queries(self, start: int, stop: int, cosine: float) -> list[NDArray[np.int64]]:
        """Of each query from start to stop, those others (of the nearest LIKE_QUERIES) that are at least so near."""
        vectors = self.queries.read(slice(start, stop))
        k = min(LIKE_QUERIES, len(self.queries.ids))
        found = nearest(vectors, self.queries.blocks(), [self.queries.dimension], k)[self.queries.dimension]
        return [
            positions[(cosines >= cosine) & (positions != start + row)]
            for row, (positions, cosines) in enumerate(zip(found.positions, found.cosines, strict=True))
        ]


def dense_index(
    version: TableVersion | None,
    encoder: str,
    queries: DistinctTexts,
    passages: Passages,
    recall: float | None = None,
) -> DenseIndex:
    """The index over queries and passages whose vectors by `encoder` stand in a version.

    Raises:
        UserError: not one of them has a vector.
    """
    some = passages.texts.ids[:SOME_IDS].astype(str).tolist()
    width = stored_width(version, encoder, some) if version else None
    if version is None or width is None:
        raise UserError(f"{encoder} could encode none of the texts; expected a bi-encoder for them: mine.encoder")
    return DenseIndex(
        Stored(version, encoder, "query", queries.ids, width),
        Stored(version, encoder, "passage", passages.texts.ids, width),
        recall,
    )


def _cosines(
    queries: NDArray[np.float32], block: NDArray[np.float32], query: NDArray[np.int64], passage: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Of unit vectors, row by row; a part at a time."""
    parts = [slice(start, start + BLOCK) for start in range(0, len(query), BLOCK)]
    found = [np.einsum("pd,pd->p", queries[query[part]], block[passage[part]]) for part in parts]
    return np.concatenate(found) if found else np.empty(0, np.float32)


def _hits(found: Nearest, is_encoded: NDArray[np.bool_], vectors: NDArray[np.float32], k: int) -> Hits:
    """With k columns, and no passage where it or the query has no vector."""
    is_near = (found.positions >= 0) & is_encoded[found.positions] & ~np.isnan(vectors[:, :1])
    hits = Hits(np.where(is_near, found.positions, -1), np.where(is_near, found.cosines, 0).astype(np.float32))
    return _padded(hits, k)


def _padded(hits: Hits, k: int) -> Hits:
    """With k columns, where there are not as many passages."""
    missing = ((0, 0), (0, k - hits.positions.shape[1]))
    return Hits(np.pad(hits.positions, missing, constant_values=-1), np.pad(hits.scores, missing))
