"""The objective of one step: every term that is on, by name, and their weighted sum.

A new term is its fields in students/training_config.py, a module like spread_out.py, and a line in TERMS. A term's
value is a mean over the whole step, by a count that is the same for any number of ranks: its own, of triplets, queries
or texts.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.stage.errors import UserError
from pipelines.students.objective.info_nce import InfoNce
from pipelines.students.objective.kl import Kl
from pipelines.students.objective.margin_mse import MarginMse
from pipelines.students.objective.matryoshka import Step
from pipelines.students.objective.pointwise import Pointwise
from pipelines.students.objective.spread_out import SpreadOut
from pipelines.students.objective.term import Term
from pipelines.students.objective.vectors import Vectors
from pipelines.students.training_config import ObjectiveConfig

TERMS: dict[str, type[Term]] = {
    "margin_mse": MarginMse,
    "info_nce": InfoNce,
    "vectors": Vectors,
    "kl": Kl,
    "pointwise": Pointwise,
    "spread_out": SpreadOut,
}


class Objective(nn.Module):
    """The terms that are on. Its parameters, if any, are trained beside the student's and kept beside its model.

    Every rank computes the whole step's loss from the same embeddings, so their gradients are equal on all ranks.
    """

    def __init__(self, config: ObjectiveConfig, width: int, teacher_width: int) -> None:
        super().__init__()
        self._weights = {term: weight for term, weight in config.weights().items() if weight}
        self.terms = nn.ModuleDict({term: TERMS[term](config, width, teacher_width) for term in self._weights})
        self._to_start = {term for term, module in self.terms.items() if module.state_dict()}

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the terms, and each of them before its weight."""
        values: dict[str, Tensor] = {term: module(step) for term, module in self.terms.items()}
        return torch.stack([self._weights[term] * value for term, value in values.items()]).sum(), values

    @property
    def is_of_each_text(self) -> bool:
        """Whether the gradient of a text's embedding asks for no other text of the step."""
        return all(module.is_of_each_text for module in self.terms.values())

    @property
    def is_to_start(self) -> bool:
        """Whether something is trained here that neither `start` nor `take_up` has set."""
        return bool(self._to_start)

    @torch.no_grad()
    def start(self, steps: Sequence[Step]) -> Tensor | None:
        """Set what is kept here, but for what was taken up, to what the first steps say of the untrained student.

        Returns the rotation, (D, D), that the student's dense head should begin with, if it should with any.
        """
        for term in sorted(self._to_start):
            self.terms[term].start(steps)  # type: ignore[operator]  # a ModuleDict does not tell what it holds
        vectors = self.terms["vectors"] if "vectors" in self._to_start else None
        self._to_start = set()
        return vectors.rotation(steps) if isinstance(vectors, Vectors) else None

    def save(self, path: Path) -> None:
        """Write what is trained here, and the teacher's axes, to `path`; no file where there is neither."""
        if self.terms.state_dict():
            save_file({name: value.contiguous() for name, value in self.terms.state_dict().items()}, path)

    @torch.no_grad()
    def take_up(self, path: Path) -> None:
        """Begin with what an earlier training saved: each term of which `path` has all. The others are for `start`.

        Raises UserError when a parameter there has another shape: it was trained towards another teacher or student.
        """
        saved = load_file(path)
        for term in sorted(self._to_start):
            kept = {f"{term}.{name}": value for name, value in self.terms[term].state_dict().items()}
            if kept.keys() <= saved.keys():
                for name, value in kept.items():
                    _check_shape(path, name, saved[name], value)
                    value.copy_(saved[name])
                self._to_start.discard(term)


def _check_shape(path: Path, name: str, found: Tensor, expected: Tensor) -> None:
    if found.shape != expected.shape:
        raise UserError(
            f"{path}: {name} has shape {tuple(found.shape)}, expected {tuple(expected.shape)} for this student and "
            "this teacher; start from a training with both, or without what its objective trained"
        )
