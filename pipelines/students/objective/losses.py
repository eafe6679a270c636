"""Distillation losses inside Matryoshka: tensors in, one value per dimension and pair, query or text out.

No model, no Ray, no reduction: the caller sums everything a term returns and divides by the step's *global* number of
pairs (MarginMSE), queries (InfoNCE) or texts (vectors), whatever the number of ranks. Summing over dimensions is what
sentence-transformers' MatryoshkaLoss does with its default weights of one.

A student's score is always the cosine of the two embeddings *cut* to a dimension: cut, then normalised, so embeddings
need not have unit length. Arithmetic is float32 or better, also under autocast. Embeddings are those of the step's
unique texts; pairs point into them by index.

Shape letters, this file only: T = unique texts, B = pairs (or triplets), Q = queries, P = passages, D = embedding
width, K = Matryoshka dimensions, in the order the caller gives them.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

NORM_EPSILON = 1e-12  # of torch.nn.functional.normalize: norms below it count as this


def cosines_at(embeddings_TD: Tensor, left_B: Tensor, right_B: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Cosine of each indexed pair of texts, with both embeddings cut to each dimension.

    Returns:
        Shape (K, B).
    """
    return _cosines_of_rows(_rows(embeddings_TD, left_B), _rows(embeddings_TD, right_B), dimensions)


def margin_mse(
    embeddings_TD: Tensor,
    query_B: Tensor,
    positive_B: Tensor,
    negative_B: Tensor,
    teacher_margin_B: Tensor,
    *,
    dimensions: Sequence[int],
    scale: float | Tensor,
) -> Tensor:
    """Squared gap between the student's and the teacher's margin, one per dimension and triplet.

    The student's margin is `scale * (cos(q, p) - cos(q, n))`; the difference of cosines is at most 2, and `scale`
    brings it to the units of the teacher's margin: 1 where the target is a margin of relevances or cosines, about 20
    where it is one of logits. Summed over K and B and divided by the number of triplets, this equals
    sentence-transformers' MatryoshkaLoss(MarginMSELoss) when scale is 1.

    Args:
        query_B, positive_B, negative_B: rows of embeddings_TD, int64.
        teacher_margin_B: target(q, p) - target(q, n) in the teacher's units.
        scale: a number, or a scalar tensor when it is fitted.
    Returns:
        Shape (K, B), in squared units of the teacher.
    Raises:
        ValueError: not one margin per triplet (subtraction would broadcast instead).
    Source: Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666; Kusupati et al. 2022, https://arxiv.org/abs/2205.13147.
    """
    if teacher_margin_B.shape != query_B.shape:
        raise ValueError(
            f"margin_mse got teacher margins of shape {tuple(teacher_margin_B.shape)}, expected "
            f"{tuple(query_B.shape)}: one margin per triplet, not one score per passage"
        )
    positive_cosine_KB = cosines_at(embeddings_TD, query_B, positive_B, dimensions)
    negative_cosine_KB = cosines_at(embeddings_TD, query_B, negative_B, dimensions)
    student_margin_KB = scale * (positive_cosine_KB - negative_cosine_KB)
    return (student_margin_KB - teacher_margin_B.to(student_margin_KB.dtype)).square()


def info_nce(
    query_QD: Tensor,
    passage_PD: Tensor,
    is_positive_QP: Tensor,
    *,
    dimensions: Sequence[int],
    temperature: float,
) -> Tensor:
    """Cross-entropy of each query's positive against every passage of the step that is not its positive.

    A query's other positives are left out of the denominator; with several positives its value is their mean. The
    passages may come from all ranks (gathered differentiably), the queries from this one.

    Args:
        is_positive_QP: bool, at least one True per row. Every passage known to be relevant belongs here.
        temperature: cosines are divided by it; 0.05 is usual.
    Returns:
        Shape (K, Q), in nats.
    Raises:
        ValueError: the mask has another shape, or a query has no positive.
    Source: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748.
    """
    expected = (query_QD.shape[0], passage_PD.shape[0])
    if is_positive_QP.shape != expected or not bool(is_positive_QP.any(dim=1).all()):
        raise ValueError(
            f"info_nce got a mask of shape {tuple(is_positive_QP.shape)}, expected {expected} with at least one "
            "positive passage for each query"
        )
    values = [
        _info_nce_of_logits(cosines_QP / temperature, is_positive_QP)
        for cosines_QP in _cosine_matrices(query_QD, passage_PD, dimensions)
    ]
    return torch.stack(values)


def vector_regression(
    student_BD: Tensor,
    teacher_BD: Tensor,
    *,
    dimensions: Sequence[int],
    distance: Literal["l2", "cosine"] = "l2",
) -> Tensor:
    """Distance between the student's and the teacher's vector of each text, both cut alike and of unit length.

    `l2` is the squared L2 distance of the unit vectors, `|s - t|^2 = 2 - 2 cos(s, t)`; `cosine` is `1 - cos(s, t)`,
    half of it, so the two differ only in weight. Cutting the teacher's vector asks the student's first dimensions to
    rank as the teacher's first dimensions do.

    Returns:
        Shape (K, B).
    Raises:
        ValueError: student and teacher vectors are not equally many, or not equally wide.
    Source: Vujanic and Rueckstiess 2025 (LEAF), https://arxiv.org/abs/2509.12539.
    """
    if student_BD.shape != teacher_BD.shape:
        raise ValueError(
            f"vector_regression got teacher vectors of shape {tuple(teacher_BD.shape)}, expected "
            f"{tuple(student_BD.shape)}: one per text, as wide as the student's"
        )
    cosine_KB = _cosines_of_rows(student_BD, teacher_BD, dimensions)
    return (1 - cosine_KB) * (2.0 if distance == "l2" else 1.0)


def _rows(embeddings_TD: Tensor, index_B: Tensor) -> Tensor:
    """`embeddings_TD[index_B]`, by the lookup whose backward adds in a fixed order.

    With plain indexing the backward adds atomically on several CPU threads, and 15 of 19 repetitions of one step gave
    other last bits (torch 2.13); with index_select a GPU does so, say the docs of use_deterministic_algorithms.
    """
    return functional.embedding(index_B, embeddings_TD)


def _cosines_of_rows(left_BD: Tensor, right_BD: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Cosine of row with row at each dimension, shape (K, B): three products, whatever the number of dimensions."""
    _check_dimensions(dimensions, left_BD.shape[-1])
    left_BD, right_BD = _at_least_float32(left_BD), _at_least_float32(right_BD)
    dot_KB = _prefix_sums(left_BD * right_BD, dimensions)
    left_norm_KB = _norm(_prefix_sums(left_BD.square(), dimensions))
    right_norm_KB = _norm(_prefix_sums(right_BD.square(), dimensions))
    return dot_KB / (left_norm_KB * right_norm_KB)


def _prefix_sums(values_BD: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Sum of the first d columns for each d, shape (K, B): a sum per segment between cuts, then sums of few terms."""
    cuts = sorted(set(dimensions))
    widths = [end - start for start, end in zip([0, *cuts[:-1]], cuts, strict=True)]
    segments = torch.split(values_BD[:, : cuts[-1]], widths, dim=1)
    sums_KB = torch.stack([segment_BD.sum(dim=1) for segment_BD in segments]).cumsum(dim=0)
    return sums_KB[[cuts.index(dimension) for dimension in dimensions]]


def _norm(squared_norm: Tensor) -> Tensor:
    """Square root, at least NORM_EPSILON; clamped before the root, whose gradient at zero is infinite."""
    return squared_norm.clamp_min(NORM_EPSILON**2).sqrt()


def _cosine_matrices(query_QD: Tensor, passage_PD: Tensor, dimensions: Sequence[int]) -> list[Tensor]:
    """All cosines of queries with passages, one (Q, P) matrix per dimension."""
    _check_dimensions(dimensions, query_QD.shape[-1])
    query_QD, passage_PD = _at_least_float32(query_QD), _at_least_float32(passage_PD)
    with torch.autocast(query_QD.device.type, enabled=False):  # a matrix product would fall back to 16 bits
        return [
            functional.normalize(query_QD[:, :dimension], dim=-1, eps=NORM_EPSILON)
            @ functional.normalize(passage_PD[:, :dimension], dim=-1, eps=NORM_EPSILON).T
            for dimension in dimensions
        ]


def _info_nce_of_logits(logits_QP: Tensor, is_positive_QP: Tensor) -> Tensor:
    """Mean over a query's positives of `logsumexp(positive, all non-positives) - positive`, shape (Q,)."""
    negatives_Q1 = logits_QP.masked_fill(is_positive_QP, -torch.inf).logsumexp(dim=1, keepdim=True)
    loss_QP = torch.logaddexp(logits_QP, negatives_Q1) - logits_QP
    return loss_QP.where(is_positive_QP, 0).sum(dim=1) / is_positive_QP.sum(dim=1)


def _at_least_float32(vectors: Tensor) -> Tensor:
    """The vectors in float32, or in float64 if that is what they are."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))


def _check_dimensions(dimensions: Sequence[int], width: int) -> None:
    """A slice past the end would silently be the whole embedding."""
    if not dimensions or min(dimensions) < 1 or max(dimensions) > width:
        raise ValueError(f"dimensions are {list(dimensions)}, expected one or more, each from 1 to {width}")
