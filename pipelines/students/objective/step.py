"""What a loss term is given of one training step.

The embeddings are those of all unique texts of the step, of every rank: each rank computes the whole step's loss, so a
term's mean is over the step's pairs, queries or texts whatever the number of ranks.

Shape letters of this package: T = unique texts, B = pairs (or triplets), Q = queries, P = passages, D = embedding
width, K = Matryoshka dimensions, in the order the config gives them.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.students.data.plan import Ints, StepBatch


class Step(NamedTuple):
    """One step, embedded, and what the teacher says of it."""

    embeddings_TD: Tensor  # of `batch.texts`, in that order; of any length
    batch: StepBatch
    targets: NDArray[np.float32]  # (B, 4): TARGETS of the token cache, of `batch.triplets`
    teacher_TD: Tensor | None  # the teacher's vectors of `batch.texts`, where a term needs them

    def on_device(self, rows: Ints) -> Tensor:
        """Some rows of `batch.texts`, where the embeddings are."""
        return torch.as_tensor(rows, device=self.embeddings_TD.device)
