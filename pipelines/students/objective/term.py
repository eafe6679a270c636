"""What a term of the objective is: a module from a step to its value, and what is trained in it beside the student.

A trained number begins where the first steps say, embedded by the student as it begins: a closed form, so nothing is
drawn. It then moves at the student's own learning rate, which is far too small to find it from anywhere.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pipelines.students.objective.matryoshka import Step
from pipelines.students.training_config import ObjectiveConfig


class Term(nn.Module):
    """One term: `forward` gives its mean over the step, before its weight, summed over the Matryoshka dimensions."""

    def __init__(self, config: ObjectiveConfig, width: int, teacher_width: int) -> None:
        """The student's embeddings are `width` wide, the teacher's vectors `teacher_width`, 0 where there are none."""
        super().__init__()
        self.config = config

    @property
    def is_of_each_text(self) -> bool:
        """Whether a text's gradient depends on no other text of the step, and nothing is trained here."""
        return False

    def start(self, steps: Sequence[Step]) -> None:
        """Set what is trained in this term to what some steps say, before the student has learnt anything."""

    def forward(self, step: Step) -> Tensor:
        raise NotImplementedError


class Scale(nn.Module):
    """A positive factor: a given number, or trained by its logarithm."""

    def __init__(self, given: float | Literal["fitted"]) -> None:
        super().__init__()
        self._given, is_fitted = given, given == "fitted"
        self.log = nn.Parameter(torch.zeros(())) if is_fitted else None

    def forward(self) -> float | Tensor:
        if self.log is not None:
            return self.log.exp()
        assert self._given != "fitted"
        return self._given

    def start(self, student: Tensor, teacher: Tensor) -> None:
        """Make the student's values as large as the teacher's in the mean square; 1 where either has only zeros."""
        ratio = (teacher.double().square().mean() / student.double().square().mean()).sqrt()
        if self.log is not None and bool(ratio.isfinite() and ratio > 0):
            self.log.copy_(ratio.log())
