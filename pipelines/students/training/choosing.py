"""Which step's student is taken: dev nDCG@10 every so many steps, the best student so far, and when to stop.

    all ranks embed the dev texts -> rank 0 searches exactly and measures -> every rank hears the same numbers

The best student and all counts go with each checkpoint, so a run that was killed chooses as if it had not been.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from pipelines.search.exact import search
from pipelines.students.training.averaging import StartAverage
from pipelines.students.training.encoder import RankEncoder
from pipelines.students.training_config import TrainingConfig

if TYPE_CHECKING:  # what makes it reads tables
    from pipelines.students.data.dev_set import DevSet

DEPTH = 10
VALUE = "dev_ndcg_at_10"

Weights = dict[str, dict[str, Tensor]]


class Chooser:
    """Measures the student as it is trained and remembers the best one; without a dev set it does nothing."""

    def __init__(
        self, dev: "DevSet | None", encoder: RankEncoder, config: TrainingConfig, average: StartAverage
    ) -> None:
        self._dev, self._encoder, self._config, self._average = dev, encoder, config, average
        self._best: Weights | None = None  # on rank 0, in the CPU's memory
        self._counts: dict[str, Any] = {"step": 0, VALUE: -1.0, "evaluations": 0, "since_best": 0, "seconds": 0.0}

    @property
    def is_over(self) -> bool:
        """Whether so many evaluations in a row were no better that training stops."""
        patience = self._config.early_stop_after
        return patience is not None and bool(self._counts["since_best"] >= patience)

    def after(self, step: int, num_steps: int, weights: Callable[[], Weights]) -> dict[str, float]:
        """Measure, if it is due after so many steps; returns what the step's line of metrics says of it.

        Args:
            weights: all that is trained, as a checkpoint keeps it.
        """
        every = self._config.dev_every_steps
        if self._dev is None or not every or (step % every and step != num_steps):
            return {}
        started = time.perf_counter()
        with self._average.applied():
            by_dimension = dev_ndcg(self._dev, self._encoder, self._config.dimensions)
        value = float(np.mean([by_dimension[dimension] for dimension in self._config.choosing_dimensions()]))
        counts = self._counts
        is_better = value > counts[VALUE]
        counts |= {"evaluations": counts["evaluations"] + 1, "since_best": 0 if is_better else counts["since_best"] + 1}
        if is_better:
            counts |= {"step": step, VALUE: value}
            self._best = _copied(weights()) if self._encoder.rank == 0 else None
        counts["seconds"] += time.perf_counter() - started
        told = {VALUE: value, **{f"{VALUE}_dim_{dimension}": found for dimension, found in by_dimension.items()}}
        return told | {"dev_steps_since_best": step - counts["step"], "dev_seconds": round(counts["seconds"], 3)}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"choice": {**self._counts, "best": self._best}} if self._dev else {}

    def load(self, state: dict[str, Any]) -> None:
        if self._dev:
            kept = dict(state["choice"])
            best = kept.pop("best")
            is_kept = self._encoder.rank == 0 and best is not None  # none before the first evaluation
            self._counts, self._best = kept, _copied(best) if is_kept else None

    def best(self) -> Weights | None:
        """All that was trained as it was at the best step, on rank 0; None where the last step's is taken."""
        return self._best

    def summary(self, step: int, num_steps: int) -> dict[str, Any] | None:
        """For run.json: which step was taken, by what, and what that cost; None without a dev set."""
        if self._dev is None:
            return None
        counts = {name: value for name, value in self._counts.items() if name != "since_best"}
        return {**counts, "dimensions": self._config.choosing_dimensions(), "stopped_early": step < num_steps,
                "set": self._dev.name}  # fmt: skip


def dev_ndcg(dev: "DevSet", encoder: RankEncoder, dimensions: tuple[int, ...]) -> dict[int, float]:
    """Mean nDCG@10 over the dev queries at each dimension, the same on every rank: it is rank 0's."""
    embeddings_TD = encoder.encode(dev.texts)
    values = torch.zeros(len(dimensions), dtype=torch.float64, device=encoder.device)
    if encoder.rank == 0:
        values += torch.as_tensor(_ndcg(dev, embeddings_TD.float().cpu().numpy(), dimensions))
    if encoder.num_ranks > 1:
        dist.broadcast(values, src=0)
    return dict(zip(dimensions, values.tolist(), strict=True))


def _ndcg(dev: "DevSet", embeddings_TD: NDArray[np.float32], dimensions: tuple[int, ...]) -> list[float]:
    queries, passages = embeddings_TD[: dev.num_queries], embeddings_TD[dev.num_queries :]
    most_own = int(np.bincount(dev.own[:, 0]).max()) if len(dev.own) else 0
    found = search(queries, [passages], dimensions, DEPTH + most_own)
    return [ndcg_at_10(found[dimension], dev) for dimension in dimensions]


def ndcg_at_10(positions_QK: NDArray[np.int64], dev: "DevSet") -> float:
    """Mean nDCG@10 of the passages found for each query, best first; gain 1 for each relevant one.

    Source: Järvelin and Kekäläinen 2002, as trec_eval's ndcg_cut.10 computes it.
    """
    shape = dev.num_queries, int(positions_QK.max()) + 1
    is_relevant, is_own = (_is_pair(pairs, positions_QK, shape) for pairs in (dev.relevant, dev.own))
    num_relevant = np.bincount(dev.relevant[:, 0], minlength=dev.num_queries)
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(num_relevant, DEPTH)]
    gains = [is_relevant[row][~is_own[row]][:DEPTH] for row in range(dev.num_queries)]
    return float(np.mean([discounts[: len(gain)] @ gain for gain in gains] / ideal))


def _is_pair(pairs: NDArray[np.int32], positions_QK: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether each passage that was found is one of its query's in `pairs`."""
    known = pairs[pairs[:, 1] < shape[1]].astype(np.int64)
    numbered = np.arange(shape[0])[:, None] * shape[1] + positions_QK
    return np.isin(numbered, known[:, 0] * shape[1] + known[:, 1])


def _copied(weights: Weights) -> Weights:
    """In the CPU's memory, as they are now."""
    return {part: {name: value.to("cpu", copy=True) for name, value in of.items()} for part, of in weights.items()}
