"""Approximate nearest-neighbour search by faiss: an inverted file whose recall is measured, against `exact`.

    blocks of passages  --train, add-->  lists around centroids     queries  --the nearest lists-->  ranked positions

Each passage stands in one list, in 16 bits; a query is compared with those of its nearest lists alone. How many lists
that are is raised until, of the passages that are nearest to some of the queries, enough are found. Memory: two bytes
for each dimension of each passage. faiss is no requirement of ours: `pip install faiss-cpu`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.search.exact import Nearest, nearest
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell

QUERIES_ASKED = 512  # by which the recall is measured
TRAINED_ON = 64  # passages for each centroid; faiss wants 39 or more
Vectors = NDArray[np.float32]


class ApproximateIndex:
    """Over unit vectors; a passage with NaN is near to nothing."""

    def __init__(self, blocks: Callable[[], Iterator[Vectors]], num_passages: int, dimension: int) -> None:
        """Args:
            blocks: gives the vectors in the order of their positions, as often as asked; the first ones are a sample.
        Raises:
            UserError: there is no faiss.
        """  # fmt: skip
        faiss = _faiss()
        self.num_lists = max(1, min(round(4 * num_passages**0.5), num_passages // TRAINED_ON))
        self._blocks, self._dimension = blocks, dimension
        self._index = faiss.index_factory(dimension, f"IVF{self.num_lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
        self.is_encoded = np.empty(num_passages, bool)
        self._index.train(self._first(self.num_lists * TRAINED_ON))
        start = 0
        for block in blocks():
            self.is_encoded[start : start + len(block)] = ~np.isnan(block[:, 0])
            self._index.add(np.nan_to_num(block))
            start += len(block)

    def reach(self, recall: float, queries: Vectors, k: int) -> float:
        """Look at as many lists as it takes to find so much of the k nearest of these queries; gives what is found."""
        exact = nearest(queries, self._blocks(), [self._dimension], k)[self._dimension].positions
        found, self._index.nprobe = 0.0, 1
        while True:
            same = (self.top(queries, k).positions[:, :, None] == exact[:, None]).any(axis=2)
            found = float(same.sum()) / exact.size
            if found >= recall or self._index.nprobe >= self.num_lists:
                tell(
                    f"mine: dense: an index that looks at {self._index.nprobe:,} of its {self.num_lists:,} lists "
                    f"finds {found:.3f} of the {k} nearest of {len(queries):,} queries"
                )
                return found
            self._index.nprobe = min(2 * self._index.nprobe, self.num_lists)

    def top(self, queries: Vectors, k: int) -> Nearest:
        """The k nearest that are found, best first; -1 and no cosine where there are fewer."""
        cosines, positions = self._index.search(np.nan_to_num(queries), k)
        return Nearest(positions, cosines)

    def _first(self, count: int) -> Vectors:
        parts: list[Vectors] = []
        for block in self._blocks():
            parts.append(block[~np.isnan(block[:, 0])])
            if sum(map(len, parts)) >= count:
                break
        return np.concatenate(parts)[:count]


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UserError("mine.index_recall asks for faiss, which is not there: pip install faiss-cpu") from error
    return faiss
