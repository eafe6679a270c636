"""Listwise KL: the student's distribution over a query's candidates, drawn to the teacher's.

Shape letters: matryoshka.py; N = candidates of the query that has most.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipelines.students.data.plan import Ints
from pipelines.students.objective.matryoshka import Step, cosines_at
from pipelines.students.objective.term import Term


class Kl(Term):
    """The mean over the step's queries with two or more candidates; 0 where none has."""

    def forward(self, step: Step) -> Tensor:
        _, candidates = np.unique(step.batch.candidate_query, return_counts=True)
        values_KQ = listwise_kl(
            step.embeddings_TD,
            step.batch.candidate_query,
            step.batch.candidate_passage,
            step.candidate_target(self.config.kl_target),
            dimensions=self.config.dimensions,
            student_temperature=self.config.kl_student_temperature,
            teacher_temperature=self.config.kl_teacher_temperature,
        )
        return values_KQ.sum() / max(1, int((candidates > 1).sum()))


def listwise_kl(
    embeddings_TD: Tensor,
    query_C: Ints,
    passage_C: Ints,
    teacher_C: Tensor,
    *,
    dimensions: Sequence[int],
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """KL(softmax(teacher / its temperature) || softmax(cosine / the student's)) over each query's candidates.

    A query with one candidate has 0. sentence-transformers' DistillKLDivLoss multiplies by the student's temperature
    squared, which at 0.05 leaves a four-hundredth; here the gradient is of InfoNCE's size at the same temperature.

    Args:
        query_C, passage_C: rows of embeddings_TD; a query's candidates in any place, each once.
        teacher_C: what the teacher says of each candidate.
    Returns:
        Shape (K, Q), in nats, the queries in ascending order of their rows.
    Raises:
        ValueError: not one target per candidate (it would broadcast instead).
    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531; over lists, Lin et al. 2020, https://arxiv.org/abs/2010.11386.
    """
    if teacher_C.shape != query_C.shape:
        raise ValueError(
            f"listwise_kl got targets of shape {tuple(teacher_C.shape)}, expected {query_C.shape}: one per candidate"
        )
    places, shape = _places(query_C)
    query, passage, row_C, column_C = (
        torch.as_tensor(index_C, device=embeddings_TD.device) for index_C in (query_C, passage_C, *places)
    )
    cosine_KC = cosines_at(embeddings_TD, query, passage, dimensions)

    def log_softmax(logit: Tensor) -> Tensor:
        """Over the candidates of each query, from (..., C) to (..., Q, N); 0 where there is no candidate."""
        logit_QN = logit.new_full((*logit.shape[:-1], *shape), -torch.inf)
        logit_QN[..., row_C, column_C] = logit
        return logit_QN.log_softmax(dim=-1).masked_fill(logit_QN == -torch.inf, 0)

    teacher_QN = log_softmax(teacher_C.to(cosine_KC.dtype) / teacher_temperature)
    student_KQN = log_softmax(cosine_KC / student_temperature)
    return (teacher_QN.exp() * (teacher_QN - student_KQN)).sum(dim=-1)


def _places(query_C: Ints) -> tuple[tuple[Ints, Ints], tuple[int, int]]:
    """Row and column of each candidate in a table with a row per query, and the table's shape."""
    _, row_C, candidates = np.unique(query_C, return_inverse=True, return_counts=True)
    order = np.argsort(row_C, kind="stable")
    column_C = np.empty_like(order)
    column_C[order] = np.arange(len(order)) - np.repeat(np.cumsum(candidates) - candidates, candidates)
    return (row_C, column_C), (len(candidates), int(candidates.max(initial=0)))
