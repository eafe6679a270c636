"""Where a training stage stands among all of its model's: what its lines of progress and metrics say. Imports nothing.

stages.py has what a stage is.
"""

from typing import NamedTuple


class Place(NamedTuple):
    """One of `of` stages, counted from 1."""

    name: str = "stage_1"
    number: int = 1
    of: int = 1
    steps_before: int = 0  # of all stages before it
    seconds_before: float = 0.0

    @property
    def is_last(self) -> bool:
        return self.number == self.of

    def __str__(self) -> str:
        """How what is said of it begins."""
        return f"distill: stage {self.number} of {self.of} ({self.name})" if self.of > 1 else "distill"


ALONE = Place()
