"""What is trained when: the training's steps over all epochs, and the learning rate of each step."""

import numpy as np

from pipelines.students.config import TrainingConfig
from pipelines.students.data.plan import EpochPlan, StepBatch, plan_epoch, step_batch
from pipelines.students.data.token_cache import TokenCache


def learning_rate_at(step: int, num_steps: int, config: TrainingConfig) -> float:
    """Linear warm-up, then linear decay that would reach 0 one step after the last."""
    num_warmup = round(config.warmup_share * num_steps)
    if step < num_warmup:
        return config.learning_rate * (step + 1) / num_warmup
    return config.learning_rate * (num_steps - step) / (num_steps - num_warmup)


class Schedule:
    """All steps of all epochs, by one number: which epoch, which groups."""

    def __init__(self, cache: TokenCache, config: TrainingConfig) -> None:
        self._cache, self._config = cache, config
        self._group_tokens = cache.group_tokens()
        self._plan = (0, self._plan_epoch(0))
        steps = [self._plan[1].num_steps] + [self._plan_epoch(epoch).num_steps for epoch in range(1, config.epochs)]
        self._ends = np.cumsum(steps)
        self.num_steps = min(int(self._ends[-1]), config.max_steps or int(self._ends[-1]))

    def epoch(self, step: int) -> int:
        return int(np.searchsorted(self._ends, step, side="right"))

    def batch(self, step: int) -> StepBatch:
        epoch = self.epoch(step)
        if self._plan[0] != epoch:
            self._plan = (epoch, self._plan_epoch(epoch))
        plan = self._plan[1]
        groups = plan.groups(step - (int(self._ends[epoch]) - plan.num_steps))
        arrays = self._cache.arrays
        return step_batch(groups, self._cache.group_offsets, arrays["triplet_texts"], arrays["text_tokens"])

    def _plan_epoch(self, epoch: int) -> EpochPlan:
        return plan_epoch(
            self._group_tokens,
            self._cache.arrays["group_triplets"],
            triplets_per_step=self._config.triplets_per_step,
            window_steps=self._config.length_window_steps,
            seed=self._config.seed,
            epoch=epoch,
        )
