"""InfoNCE: each query's positive against every passage of the step that is not known as its positive.

Where asked, passages that the teacher rates nearly as high as the positive are left out, too: of a step's passages
some answer a query without being known for it, and would be pushed away. Shape letters: matryoshka.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipelines.students.objective.matryoshka import Step, cosine_matrices, rows_at
from pipelines.students.objective.term import Term


class InfoNce(Term):
    """The mean over the step's queries, each against all passages of the step."""

    def forward(self, step: Step) -> Tensor:
        batch = step.batch
        queries, query_of = np.unique(batch.query, return_inverse=True)
        passages, passage_of = np.unique(np.concatenate([batch.positive, batch.negative]), return_inverse=True)
        is_positive = np.zeros((len(queries), len(passages)), dtype=bool)
        is_positive[query_of, passage_of[: len(batch.positive)]] = True
        is_positive_QP = torch.as_tensor(is_positive, device=step.embeddings_TD.device)
        query, passage = step.on_device(queries), step.on_device(passages)
        values_KQ = info_nce(
            rows_at(step.embeddings_TD, query),
            rows_at(step.embeddings_TD, passage),
            is_positive_QP,
            dimensions=self.config.dimensions,
            temperature=self.config.temperature,
            is_false_NP=self._false_negatives(step, query, passage, is_positive_QP),
        )
        return values_KQ.sum() / len(queries)

    def _false_negatives(self, step: Step, query: Tensor, passage: Tensor, is_positive_QP: Tensor) -> Tensor | None:
        share = self.config.info_nce_false_negative_share
        if not share:
            return None
        assert step.teacher_TD is not None, "false negatives are told by the teacher's vectors in the token cache"
        width = step.teacher_TD.shape[1]
        (cosine_QP,) = cosine_matrices(rows_at(step.teacher_TD, query), rows_at(step.teacher_TD, passage), [width])
        return false_negatives(cosine_QP, is_positive_QP, share, self.config.info_nce_false_negative_margin)


def false_negatives(teacher_QP: Tensor, is_positive_QP: Tensor, share: float, margin: float) -> Tensor:
    """Which passages the teacher rates so near a query's positive that they may well answer it.

    Those with `cos > share * cos_positive - margin` (a share of a negative cosine counts as that much below it, so
    that a share under 1 always is stricter). NV-Retriever's TopK-PercPos is share 0.95, its TopK-MarginPos share 1 and
    margin 0.05; sentence-transformers' GISTEmbedLoss calls the first relative, the second absolute.

    Returns:
        Shape (N, P), bool: a row for each known positive of each query, in the order of `is_positive_QP.nonzero()`.
    Source: Moreira et al. 2024, https://arxiv.org/abs/2407.15831; Solatorio 2024, https://arxiv.org/abs/2402.16829.
    """
    positive_N = teacher_QP[is_positive_QP]
    threshold_N = positive_N - positive_N.abs() * (1 - share) - margin
    return teacher_QP[is_positive_QP.nonzero()[:, 0]] > threshold_N[:, None]


def info_nce(
    query_QD: Tensor,
    passage_PD: Tensor,
    is_positive_QP: Tensor,
    *,
    dimensions: Sequence[int],
    temperature: float,
    is_false_NP: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each query's positive against every passage of the step that is not its positive.

    A query's other positives are left out of the denominator; with several positives its value is their mean. The
    passages may come from all ranks (gathered differentiably), the queries from this one.

    Args:
        is_positive_QP: bool, at least one True per row. Every passage known to be relevant belongs here.
        temperature: cosines are divided by it; 0.05 is usual.
        is_false_NP: further passages that the denominator of each known positive leaves out: of `false_negatives`.
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
        _info_nce_of_logits(cosines_QP / temperature, is_positive_QP, is_false_NP)
        for cosines_QP in cosine_matrices(query_QD, passage_PD, dimensions)
    ]
    return torch.stack(values)


def _info_nce_of_logits(logits_QP: Tensor, is_positive_QP: Tensor, is_false_NP: Tensor | None) -> Tensor:
    """Mean over a query's positives of `logsumexp(positive, all non-positives) - positive`, shape (Q,)."""
    if is_false_NP is None:
        negatives = logits_QP.masked_fill(is_positive_QP, -torch.inf).logsumexp(dim=1, keepdim=True)
    else:
        negatives = _negatives_of_each_positive(logits_QP, is_positive_QP, is_false_NP)
    loss_QP = torch.logaddexp(logits_QP, negatives) - logits_QP
    return loss_QP.where(is_positive_QP, 0).sum(dim=1) / is_positive_QP.sum(dim=1)


def _negatives_of_each_positive(logits_QP: Tensor, is_positive_QP: Tensor, is_false_NP: Tensor) -> Tensor:
    """At each known positive the logsumexp of what is left as its negatives, elsewhere -inf; shape (Q, P)."""
    query_N, passage_N = is_positive_QP.nonzero(as_tuple=True)
    is_left_out_NP = is_positive_QP[query_N] | is_false_NP
    negatives_N = rows_at(logits_QP, query_N).masked_fill(is_left_out_NP, -torch.inf).logsumexp(dim=1)
    negatives_QP = torch.full_like(logits_QP, -torch.inf)
    negatives_QP[query_N, passage_N] = negatives_N
    return negatives_QP
