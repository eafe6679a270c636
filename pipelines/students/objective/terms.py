"""The objective of one step: which terms, how they are weighted, and each term's own normaliser.

The embeddings are those of all unique texts of the step, of every rank: each rank computes the whole step's loss, so a
term's mean is over the step's pairs, queries or texts whatever the number of ranks.

Shape letters, this file only: T = unique texts, B = triplets, D = embedding width.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.students.config import ObjectiveConfig
from pipelines.students.data.plan import Ints, StepBatch
from pipelines.students.data.token_cache import TARGETS
from pipelines.students.objective import losses


def step_terms(
    embeddings_TD: Tensor, batch: StepBatch, targets: Ints, teacher_TD: Tensor | None, config: ObjectiveConfig
) -> dict[str, Tensor]:
    """The mean of every term that is on, not yet weighted.

    Args:
        embeddings_TD: of `batch.texts`, in that order.
        targets: shape (B, 4), the teacher's scores and relevances of `batch.triplets`.
        teacher_TD: the teacher's vectors of `batch.texts`; needed by the term `vectors` alone.
    """
    terms: dict[str, Tensor] = {}
    if config.margin_mse:
        terms["margin_mse"] = _margin_mse(embeddings_TD, batch, targets, config) / len(batch.triplets)
    if config.info_nce:
        values_KQ = _info_nce(embeddings_TD, batch, config)
        terms["info_nce"] = values_KQ.sum() / values_KQ.shape[1]
    if config.vectors:
        assert teacher_TD is not None, "the term `vectors` needs the teacher's vectors in the token cache"
        values_KT = losses.vector_regression(
            embeddings_TD, teacher_TD, dimensions=config.dimensions, distance=config.vectors_distance
        )
        terms["vectors"] = values_KT.sum() / len(batch.texts)
    return terms


def _margin_mse(embeddings_TD: Tensor, batch: StepBatch, targets: Ints, config: ObjectiveConfig) -> Tensor:
    kind = config.margin_target.removesuffix("_margin")
    positive, negative = (targets[:, TARGETS.index(f"{side}_{kind}")] for side in ("positive", "negative"))
    device = embeddings_TD.device
    query_B, positive_B, negative_B = (
        torch.as_tensor(rows, device=device) for rows in (batch.query, batch.positive, batch.negative)
    )
    margin_B = torch.as_tensor(positive - negative, device=device)
    return losses.margin_mse(
        embeddings_TD,
        query_B,
        positive_B,
        negative_B,
        margin_B,
        dimensions=config.dimensions,
        scale=config.margin_scale,
    ).sum()


def _info_nce(embeddings_TD: Tensor, batch: StepBatch, config: ObjectiveConfig) -> Tensor:
    """InfoNCE of every query of the step against all passages of the step, shape (dimensions, queries)."""
    queries, query_of = np.unique(batch.query, return_inverse=True)
    passages, passage_of = np.unique(np.concatenate([batch.positive, batch.negative]), return_inverse=True)
    is_positive = np.zeros((len(queries), len(passages)), dtype=bool)
    is_positive[query_of, passage_of[: len(batch.positive)]] = True
    device = embeddings_TD.device
    return losses.info_nce(
        functional.embedding(torch.as_tensor(queries, device=device), embeddings_TD),
        functional.embedding(torch.as_tensor(passages, device=device), embeddings_TD),
        torch.as_tensor(is_positive, device=device),
        dimensions=config.dimensions,
        temperature=config.temperature,
    )
