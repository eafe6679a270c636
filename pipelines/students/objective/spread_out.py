"""Spread-out: different queries, and different passages, no more alike than random directions are.

Shape letters: matryoshka.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.students.objective.matryoshka import Step, cosine_matrices, rows_at
from pipelines.students.objective.term import Term


class SpreadOut(Term):
    """Of the step's queries, plus of its passages: each the mean over pairs of different texts of that kind."""

    def forward(self, step: Step) -> Tensor:
        kinds = [step.batch.is_query.nonzero()[0], (~step.batch.is_query).nonzero()[0]]
        texts_of_kinds = [rows_at(step.embeddings_TD, step.on_device(rows)) for rows in kinds]
        return torch.stack(
            [spread_out(texts, dimensions=self.config.dimensions).sum() for texts in texts_of_kinds]
        ).sum()


def spread_out(texts_TD: Tensor, *, dimensions: Sequence[int]) -> Tensor:
    """How far the mean squared cosine of two different texts is above 1 / dimension, that of random directions.

    Equal to sentence-transformers' GlobalOrthogonalRegularizationLoss with mean_weight 0, which sums over kinds with
    aggregation "sum". EmbeddingGemma's formula is the mean squared cosine itself: the same gradient while it is above
    1 / dimension. Below, where nothing is left to spread, it goes on pushing, against every other term; this one
    stops, as the regulariser that both cite.

    Returns:
        Shape (K,); 0 for fewer than two texts.
    Source: Zhang et al. 2017, https://arxiv.org/abs/1708.06320; EmbeddingGemma, https://arxiv.org/abs/2509.20354.
    """
    num_texts = len(texts_TD)
    num_pairs = max(1, num_texts * (num_texts - 1))
    is_same = torch.eye(num_texts, dtype=torch.bool, device=texts_TD.device)
    values = []
    for dimension, cosine_TT in zip(dimensions, cosine_matrices(texts_TD, texts_TD, dimensions), strict=True):
        second_moment = cosine_TT.masked_fill(is_same, 0).square().sum() / num_pairs
        values.append((second_moment - 1 / dimension).relu())
    return torch.stack(values)
