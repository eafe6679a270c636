"""What every loss term is made of: one step's embeddings, and their cosines cut to each Matryoshka dimension.

A student's score is always the cosine of the two embeddings *cut* to a dimension: cut, then normalised, so embeddings
need not have unit length. Arithmetic is float32 or better, also under autocast. Summing a loss over the dimensions is
what sentence-transformers' MatryoshkaLoss does with its default weights of one.

Shape letters of this package: T = unique texts, B = pairs (or triplets), C = candidates (a query and a passage that
the teacher has rated), Q = queries, P = passages, D = embedding width, E = width of the teacher's vectors, K =
Matryoshka dimensions, in the order the config gives them.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipelines.students.data.plan import Ints, StepBatch
from pipelines.students.data.token_cache import CANDIDATE_TARGETS

NORM_EPSILON = 1e-12  # of torch.nn.functional.normalize: norms below it count as this


class Step(NamedTuple):
    """One step, embedded, and what the teacher says of it: of every rank, since each computes the whole step's loss."""

    embeddings_TD: Tensor  # of `batch.texts`, in that order; of any length
    batch: StepBatch
    targets: NDArray[np.float32]  # (B, 4): TARGETS of the token cache, of `batch.triplets`
    teacher_TD: Tensor | None  # the teacher's vectors of `batch.texts`, where a term needs them; of any width
    candidate_targets: NDArray[np.float32]  # (C, 2): CANDIDATE_TARGETS, of `batch.candidates`

    def on_device(self, rows: Ints) -> Tensor:
        """Some rows of `batch.texts`, where the embeddings are."""
        return torch.as_tensor(rows, device=self.embeddings_TD.device)

    def candidate_target(self, name: str) -> Tensor:
        """What the teacher says of each candidate, shape (C,), where the embeddings are."""
        target_C = self.candidate_targets[:, CANDIDATE_TARGETS.index(name)]
        return torch.as_tensor(target_C, device=self.embeddings_TD.device)


def cosines_at(embeddings_TD: Tensor, left_B: Tensor, right_B: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Cosine of each indexed pair of texts, with both embeddings cut to each dimension.

    Returns:
        Shape (K, B).
    """
    return cosines_of_rows(rows_at(embeddings_TD, left_B), rows_at(embeddings_TD, right_B), dimensions)


def cosines_of_rows(left_BD: Tensor, right_BD: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Cosine of row with row at each dimension, shape (K, B): three products, whatever the number of dimensions."""
    _check_dimensions(dimensions, left_BD.shape[-1])
    left_BD, right_BD = _at_least_float32(left_BD), _at_least_float32(right_BD)
    dot_KB = _prefix_sums(left_BD * right_BD, dimensions)
    left_norm_KB = _norm(_prefix_sums(left_BD.square(), dimensions))
    right_norm_KB = _norm(_prefix_sums(right_BD.square(), dimensions))
    return dot_KB / (left_norm_KB * right_norm_KB)


def cosine_matrices(query_QD: Tensor, passage_PD: Tensor, dimensions: Sequence[int]) -> list[Tensor]:
    """All cosines of queries with passages, one (Q, P) matrix per dimension."""
    _check_dimensions(dimensions, query_QD.shape[-1])
    query_QD, passage_PD = _at_least_float32(query_QD), _at_least_float32(passage_PD)
    with torch.autocast(query_QD.device.type, enabled=False):  # a matrix product would fall back to 16 bits
        return [
            functional.normalize(query_QD[:, :dimension], dim=-1, eps=NORM_EPSILON)
            @ functional.normalize(passage_PD[:, :dimension], dim=-1, eps=NORM_EPSILON).T
            for dimension in dimensions
        ]


def products_at(rows_BD: Tensor, matrix_ED: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Each row cut to each dimension, times as many columns of the matrix: (K, B, E), at the cost of one product."""
    _check_dimensions(dimensions, rows_BD.shape[-1])
    cuts, widths = _segments(dimensions)
    rows = torch.split(_at_least_float32(rows_BD)[:, : cuts[-1]], widths, dim=1)
    columns = torch.split(_at_least_float32(matrix_ED)[:, : cuts[-1]], widths, dim=1)
    with torch.autocast(rows_BD.device.type, enabled=False):
        products = accumulate(row @ column.T for row, column in zip(rows, columns, strict=True))
        products_BE = dict(zip(cuts, products, strict=True))
    return torch.stack([products_BE[dimension] for dimension in dimensions])


def rows_at(embeddings_TD: Tensor, index_B: Tensor) -> Tensor:
    """`embeddings_TD[index_B]`, by the lookup whose backward adds in a fixed order.

    With plain indexing the backward adds atomically on several CPU threads, and 15 of 19 repetitions of one step gave
    other last bits (torch 2.13); with index_select a GPU does so, say the docs of use_deterministic_algorithms.
    """
    return functional.embedding(index_B, embeddings_TD)


def _prefix_sums(values_BD: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Sum of the first d columns for each d, shape (K, B): a sum per segment between cuts, then sums of few terms."""
    cuts, widths = _segments(dimensions)
    segments = torch.split(values_BD[:, : cuts[-1]], widths, dim=1)
    sums_B = dict(zip(cuts, accumulate(segment_BD.sum(dim=1) for segment_BD in segments), strict=True))
    return torch.stack([sums_B[dimension] for dimension in dimensions])


def _segments(dimensions: Sequence[int]) -> tuple[list[int], list[int]]:
    """Where to cut, ascending, and how wide each segment between cuts is."""
    cuts = sorted(set(dimensions))
    return cuts, [end - start for start, end in zip([0, *cuts[:-1]], cuts, strict=True)]


def _norm(squared_norm: Tensor) -> Tensor:
    """Square root, at least NORM_EPSILON; clamped before the root, whose gradient at zero is infinite."""
    return squared_norm.clamp_min(NORM_EPSILON**2).sqrt()


def _at_least_float32(vectors: Tensor) -> Tensor:
    """The vectors in float32, or in float64 if that is what they are."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))


def _check_dimensions(dimensions: Sequence[int], width: int) -> None:
    """A slice past the end would silently be the whole embedding."""
    if not dimensions or min(dimensions) < 1 or max(dimensions) > width:
        raise ValueError(f"dimensions are {list(dimensions)}, expected one or more, each from 1 to {width}")
