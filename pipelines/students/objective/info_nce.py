"""InfoNCE: each query's positive against every passage of the step that is not known as its positive.

Shape letters: matryoshka.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipelines.students.config import ObjectiveConfig
from pipelines.students.objective.matryoshka import Step, cosine_matrices, rows_at


def of_step(step: Step, config: ObjectiveConfig) -> Tensor:
    """The mean over the step's queries, each against all passages of the step, summed over dimensions."""
    batch = step.batch
    queries, query_of = np.unique(batch.query, return_inverse=True)
    passages, passage_of = np.unique(np.concatenate([batch.positive, batch.negative]), return_inverse=True)
    is_positive = np.zeros((len(queries), len(passages)), dtype=bool)
    is_positive[query_of, passage_of[: len(batch.positive)]] = True
    values_KQ = info_nce(
        rows_at(step.embeddings_TD, step.on_device(queries)),
        rows_at(step.embeddings_TD, step.on_device(passages)),
        torch.as_tensor(is_positive, device=step.embeddings_TD.device),
        dimensions=config.dimensions,
        temperature=config.temperature,
    )
    return values_KQ.sum() / len(queries)


def info_nce(
    query_QD: Tensor, passage_PD: Tensor, is_positive_QP: Tensor, *, dimensions: Sequence[int], temperature: float
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
        for cosines_QP in cosine_matrices(query_QD, passage_PD, dimensions)
    ]
    return torch.stack(values)


def _info_nce_of_logits(logits_QP: Tensor, is_positive_QP: Tensor) -> Tensor:
    """Mean over a query's positives of `logsumexp(positive, all non-positives) - positive`, shape (Q,)."""
    negatives_Q1 = logits_QP.masked_fill(is_positive_QP, -torch.inf).logsumexp(dim=1, keepdim=True)
    loss_QP = torch.logaddexp(logits_QP, negatives_Q1) - logits_QP
    return loss_QP.where(is_positive_QP, 0).sum(dim=1) / is_positive_QP.sum(dim=1)
