"""The objective of one step: every term that is on, by name, and their weighted sum.

A new term is its fields in students/config.py, a module like margin_mse.py, and a line in TERMS. A term's value is a
mean over the whole step, by a count that is the same for any number of ranks: its own, of triplets, queries or texts.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.students.config import ObjectiveConfig
from pipelines.students.objective import info_nce, margin_mse, vectors
from pipelines.students.objective.matryoshka import Step

TERMS: dict[str, Callable[[Step, ObjectiveConfig], Tensor]] = {
    "margin_mse": margin_mse.of_step,
    "info_nce": info_nce.of_step,
    "vectors": vectors.of_step,
}


def step_loss(step: Step, config: ObjectiveConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the terms that are on, and each of them before its weight."""
    weights = {term: weight for term, weight in config.weights().items() if weight}
    terms = {term: TERMS[term](step, config) for term in weights}
    return torch.stack([weights[term] * value for term, value in terms.items()]).sum(), terms
