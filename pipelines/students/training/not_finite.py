"""What is said of a training that met a number which is infinite or not one: the step, its rows, and what to do.

Nothing trained on such a number is kept: a step stops before it moves a weight, and a checkpoint is looked at before it
is saved. All ranks see the same loss and the same averaged gradient, so they stop at the same step.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.stage.errors import UserError, first_of
from pipelines.students.data.plan import Ints, StepBatch
from pipelines.students.data.token_cache import TokenCache

ROWS_TOLD = 10
ADVICE = (
    "The last checkpoint is kept, and nothing of this step. With the same recipe it would stop there again: under "
    "another --name lower distill.learning_rate, or take distill.precision float32 or bf16"
)


class NonFinite(UserError):
    """The loss, a gradient or a weight is infinite or not a number: going on would only spoil the weights.

    Args:
        told: what was found, at which step.
        why: which rows are at fault, or that all of the step's are meant.
        triplet_ids: theirs.
        curated: the version that has them, where that is known.
    """

    def __init__(self, told: str, why: str = "", triplet_ids: tuple[str, ...] = (), curated: str = "") -> None:
        super().__init__(told, why, triplet_ids, curated)  # as pickle makes it again in another process
        self.told, self.why, self.triplet_ids, self.curated = told, why, triplet_ids, curated

    def __str__(self) -> str:
        return " ".join(filter(None, [f"{self.told}, expected a finite number.", self._rows(), ADVICE]))

    def of_version(self, curated: str) -> "NonFinite":
        """The same, with the version whose rows they are."""
        return NonFinite(self.told, self.why, self.triplet_ids, curated)

    def _rows(self) -> str:
        if not self.triplet_ids:
            return ""
        wanted = ", ".join(f"'{triplet_id}'" for triplet_id in self.triplet_ids[:ROWS_TOLD])
        at = f" --at {self.curated}" if self.curated else ""
        which = "them" if len(self.triplet_ids) <= ROWS_TOLD else f"the first {ROWS_TOLD}"
        return (
            f"{self.why}; to see {which}: `python -m jobs query{at} "
            f'"SELECT * FROM curated_triplets WHERE triplet_id IN ({wanted})"`.'
        )


def in_step(told: str, batch: StepBatch, cache: TokenCache, embeddings_TD: Tensor | None) -> NonFinite:
    """The error of a step, with the rows at fault where they can be told from the others.

    Args:
        embeddings_TD: of `batch.texts`; None where the loss was finite and only a gradient was not.
    """
    targets = cache.arrays["targets"][batch.triplets]
    vectors = cache.arrays["vectors"][batch.texts] if len(cache.arrays["vectors"]) else None
    embedded = None if embeddings_TD is None else embeddings_TD.detach().cpu().numpy()
    if embedded is not None and not np.isfinite(embedded).all(axis=1).any():
        embedded = None  # no text is to blame: it is the student that broke
    suspects = {
        "a target of the teacher's is not finite": np.any(~np.isfinite(targets), axis=1),
        "the teacher's vector of a text is not finite": _of_texts(batch, vectors),
        "the student's embedding of a text is not finite": _of_texts(batch, embedded),
    }
    for why, is_at_fault in suspects.items():
        if is_at_fault.any():
            found = f"In {is_at_fault.sum()} of its {len(is_at_fault)} triplets {why}"
            return NonFinite(told, found, _ids(cache, batch.triplets[is_at_fault]))
    unknown = f"Which of its {len(targets)} triplets is at fault cannot be told"
    return NonFinite(told, unknown, _ids(cache, batch.triplets))


def check_weights(model: nn.Module, step: int) -> None:
    """Raise NonFinite when a weight is not finite: such a checkpoint would take the place of a good one."""
    broken = [name for name, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise NonFinite(
            f"after step {step} {first_of(broken, 3)} of the student's weights hold a number that is not finite"
        )


def _of_texts(batch: StepBatch, values_TD: NDArray[np.floating] | None) -> NDArray[np.bool_]:
    """Which triplets have a text whose row of values is not finite."""
    if values_TD is None:
        return np.zeros(len(batch.triplets), dtype=bool)
    is_broken = np.any(~np.isfinite(values_TD), axis=1)
    of_triplets: NDArray[np.bool_] = is_broken[batch.query] | is_broken[batch.positive] | is_broken[batch.negative]
    return of_triplets


def _ids(cache: TokenCache, triplets: Ints) -> tuple[str, ...]:
    return tuple(bytes(triplet_id).hex() for triplet_id in cache.arrays["triplet_ids"][triplets])
