"""Exact nearest-neighbour search at several Matryoshka dimensions: vectors in, ranked positions out.

Vectors are cut to each dimension, made unit length and compared by cosine. Passages come in blocks, so that a corpus
never stands in memory as a whole: only one block, one block of scores and the best k so far of each query.

Shape letters, this file only: Q = queries, P = passages of a block, D = dimension, K = passages kept per query.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_SCORES = 1 << 23  # scores held at a time: 32 MB


def search(
    queries_QD: NDArray[np.float32], passage_blocks: Iterable[NDArray[np.float32]], dimensions: Sequence[int], k: int
) -> dict[int, NDArray[np.int64]]:
    """The k passages nearest to each query, at each dimension.

    Args:
        queries_QD: of full dimension; a vector with NaN (a text that could not be encoded) is near to nothing.
        passage_blocks: arrays of shape (P, D); a passage's position counts from the first block on.
    Returns:
        Dimension -> (Q, K) positions, best first, equal scores in the order of the passages; K is k, or fewer where
        there are not as many passages.
    """
    return {one: found.positions for one, found in nearest(queries_QD, passage_blocks, dimensions, k).items()}


class Nearest(NamedTuple):
    """The passages nearest to each query, best first, equal scores in the order of the passages."""

    positions: NDArray[np.int64]  # (Q, K)
    cosines: NDArray[np.float32]  # (Q, K)


def nearest(
    queries_QD: NDArray[np.float32], passage_blocks: Iterable[NDArray[np.float32]], dimensions: Sequence[int], k: int
) -> dict[int, Nearest]:
    """As `search`, with their cosines."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    whole = torch.from_numpy(queries_QD).to(device)
    queries = {dimension: cut(whole, dimension) for dimension in dimensions}
    nothing = torch.empty((len(queries_QD), 0), device=device)
    best = {dimension: _Best(nothing, nothing.long()) for dimension in dimensions}
    first = 0
    for block in passage_blocks:
        passages = torch.from_numpy(block).to(device)
        for dimension in dimensions:
            best[dimension] = best[dimension].with_block(queries[dimension], cut(passages, dimension), first, k)
        first += len(block)
    return {
        dimension: Nearest(found.positions_QK.cpu().numpy(), found.scores_QK.cpu().numpy())
        for dimension, found in best.items()
    }


def cut(vectors: Tensor, dimension: int) -> Tensor:
    """The first `dimension` numbers of each vector, of unit length again; zeros where it has NaN."""
    return torch.nn.functional.normalize(vectors[:, :dimension].nan_to_num(nan=0.0).float(), dim=-1)


class _Best(NamedTuple):
    """The best passages so far, best first."""

    scores_QK: Tensor
    positions_QK: Tensor

    def with_block(self, queries_QD: Tensor, passages_PD: Tensor, first: int, k: int) -> "_Best":
        """With a block of further passages, whose positions count from `first`; a part of the queries at a time."""
        rows = max(1, MAX_SCORES // max(1, len(passages_PD)))
        found = []
        for start in range(0, len(queries_QD), rows):
            part = slice(start, start + rows)
            scores_QP = queries_QD[part] @ passages_PD.T
            found.append(_Best(self.scores_QK[part], self.positions_QK[part])._merged_with(scores_QP, first, k))
        return _Best(torch.cat([one.scores_QK for one in found]), torch.cat([one.positions_QK for one in found]))

    def _merged_with(self, scores_QP: Tensor, first: int, k: int) -> "_Best":
        """Both together; what is here already has the smaller positions, so a stable sort keeps ties in order."""
        is_full = self.scores_QK.shape[1] == k
        new = _above(scores_QP, self.scores_QK[:, -1:], k) if is_full else _top(scores_QP, min(k, scores_QP.shape[1]))
        scores = torch.cat([self.scores_QK, new.scores_QK], dim=1)
        positions = torch.cat([self.positions_QK, new.positions_QK + first], dim=1)
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
        return _Best(scores.gather(1, order), positions.gather(1, order))


def _above(scores_QP: Tensor, least_Q1: Tensor, k: int) -> _Best:
    """The passages above each query's least, by position, filled up with -inf; the best k where they are more."""
    rows, positions = (scores_QP > least_Q1).nonzero(as_tuple=True)
    counts_Q = torch.bincount(rows, minlength=len(scores_QP))  # a sum of booleans takes half as long as the product
    if (width := int(counts_Q.max())) > k:
        return _top(scores_QP, min(k, scores_QP.shape[1]))
    places = torch.arange(len(rows), device=rows.device) - (counts_Q.cumsum(0) - counts_Q)[rows]
    found = _Best(scores_QP.new_full((len(scores_QP), width), -torch.inf), positions.new_zeros((len(scores_QP), width)))
    found.scores_QK[rows, places] = scores_QP[rows, positions]
    found.positions_QK[rows, places] = positions
    return found


def _top(scores_QP: Tensor, k: int) -> _Best:
    """torch.topk with an order for equal scores: the smaller position first, also at the edge of the k."""
    top_QK, positions_QK = scores_QP.topk(k, dim=1)
    edge_Q1 = top_QK[:, -1:]
    at_edge_Q = torch.bincount((scores_QP == edge_Q1).nonzero(as_tuple=True)[0], minlength=len(scores_QP))
    has_more_Q = at_edge_Q > (top_QK == edge_Q1).sum(dim=1)
    for row in has_more_Q.nonzero().flatten().tolist():
        equal = (scores_QP[row] == edge_Q1[row]).nonzero().flatten()
        above = (scores_QP[row] > edge_Q1[row]).nonzero().flatten()
        positions_QK[row] = torch.cat([above, equal[: k - len(above)]])
    positions_QK = positions_QK.sort(dim=1).values
    top_QK = scores_QP.gather(1, positions_QK)
    order = top_QK.argsort(dim=1, descending=True, stable=True)
    return _Best(top_QK.gather(1, order), positions_QK.gather(1, order))
