"""The batch plan: which query groups make a step, and which of the step's texts each rank embeds.

    plan_epoch    groups -> steps     a pure function of (seed, epoch, lengths), never of the number of ranks
    step_batch    a step's groups -> its unique texts, and its triplets as rows of them
    share_texts   unique texts -> sub-forwards of similar length, evenly over ranks
    Schedule      the steps of all epochs by number; learning_rate_at: the rate of each

A group is a query with all its positives and negatives. Sorting groups by length hardly saves padding; sorting the
*texts* of a step does, so a sub-forward holds texts of any group, and the loss is computed over the whole step.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.students.config import TrainingConfig
from pipelines.students.data.token_cache import TokenCache
from pipelines.texts.token_batches import batch_starts

Ints = NDArray[np.integer]


class StepBatch(NamedTuple):
    """One step: its unique texts, longest first, and its triplets and candidates as rows of `texts`."""

    texts: Ints
    query: Ints
    positive: Ints
    negative: Ints
    triplets: Ints  # which triplets of the token cache: their targets
    is_query: NDArray[np.bool_]  # (T,), of `texts`; the others are passages
    candidate_query: Ints  # (C,)
    candidate_passage: Ints  # (C,)
    candidates: Ints  # which candidates of the token cache: 2 * triplet for its positive, + 1 for its negative


def plan_epoch(
    group_tokens: Ints, group_triplets: Ints, *, triplets_per_step: int, window_steps: int, seed: int, epoch: int
) -> list[Ints]:
    """Shuffle the groups, sort them by length inside windows of `window_steps` steps, cut, shuffle the steps.

    A group goes to the step in which its first triplet falls, whole: steps have `triplets_per_step` triplets on
    average and differ by less than a group. Every other window is sorted downwards, so that a step across two
    windows holds similar lengths too. Ten million groups take about four seconds. Returns the groups of each step.
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    shuffled = generator.permutation(len(group_tokens))
    window = _step_of(group_triplets[shuffled], triplets_per_step) // window_steps
    length = group_tokens[shuffled].astype(np.int64)
    upwards = np.where(window % 2 == 0, length, length.max() - length)
    order = shuffled[np.argsort(window * (length.max() + 1) + upwards, kind="stable")]
    step = _step_of(group_triplets[order], triplets_per_step)
    steps = np.split(order, np.flatnonzero(np.diff(step)) + 1)
    return [steps[number] for number in generator.permutation(len(steps))]


def step_batch(groups: Ints, group_offsets: Ints, triplet_texts: Ints, text_tokens: Ints) -> StepBatch:
    """The unique texts and the triplets of some groups.

    Args:
        group_offsets: group g has the triplets `group_offsets[g]` to `group_offsets[g + 1]`.
        triplet_texts: shape (triplets, 3): text indices of query, positive and negative.
        text_tokens: tokens of each text of the cache.
    """
    triplets = np.concatenate([np.arange(group_offsets[group], group_offsets[group + 1]) for group in np.sort(groups)])
    texts, rows = np.unique(triplet_texts[triplets], return_inverse=True)
    longest_first = np.argsort(-text_tokens[texts].astype(np.int64), kind="stable")
    place = np.empty_like(longest_first)
    place[longest_first] = np.arange(len(texts))
    query, positive, negative = place[rows.reshape(-1, 3)].T
    is_query = np.zeros(len(texts), dtype=bool)
    is_query[query] = True
    candidates = _candidates(query, positive, negative, triplets)
    return StepBatch(texts[longest_first], query, positive, negative, triplets, is_query, *candidates)


def _candidates(query: Ints, positive: Ints, negative: Ints, triplets: Ints) -> tuple[Ints, Ints, Ints]:
    """Query and passage of each unique pair that the triplets name, and where it is named first."""
    pairs = np.column_stack([query, positive, query, negative]).reshape(-1, 2)
    unique, first = np.unique(pairs, axis=0, return_index=True)
    return unique[:, 0], unique[:, 1], 2 * triplets[first // 2] + first % 2


def share_texts(tokens: Ints, num_ranks: int, tokens_per_forward: int) -> list[list[Ints]]:
    """Cut texts, longest first, into sub-forwards and give every rank equally many of about the same work.

    The number of sub-forwards a rank is the smallest for which none exceeds `tokens_per_forward` padded tokens (a
    single longer text does); then they are made as even as that number allows, and dealt out heaviest first.

    Returns:
        For each rank its sub-forwards, each the rows of the texts it embeds; empty where texts are too few.
    """
    num_each = -(-len(batch_starts(tokens, tokens_per_forward)) // num_ranks)
    starts = batch_starts(tokens, _smallest_even_limit(tokens, num_ranks * num_each))
    rows = np.split(np.arange(len(tokens)), starts[1:])
    shares: list[list[Ints]] = [[] for _ in range(num_ranks)]
    load = [0] * num_ranks
    for part in sorted(rows, key=lambda part: -len(part) * int(tokens[part[0]])):
        rank = min((rank for rank in range(num_ranks) if len(shares[rank]) < num_each), key=lambda rank: load[rank])
        shares[rank].append(part)
        load[rank] += len(part) * int(tokens[part[0]])
    nothing = np.empty(0, dtype=np.int64)
    return [share + [nothing] * (num_each - len(share)) for share in shares]


def padded_tokens(tokens: Ints, sub_forwards: list[Ints]) -> int:
    """Tokens of the sub-forwards with their padding."""
    return sum(len(part) * int(tokens[part].max()) for part in sub_forwards if len(part))


def _step_of(triplets: Ints, triplets_per_step: int) -> Ints:
    """The step in which each group's first triplet falls, when groups follow each other as given."""
    before = np.cumsum(triplets, dtype=np.int64) - triplets
    step: Ints = before // triplets_per_step
    return step


def _smallest_even_limit(tokens: Ints, num_parts: int) -> int:
    """The fewest padded tokens a sub-forward must hold for the texts to fit into `num_parts`."""
    low, high = int(tokens[0]), int(tokens[0]) * len(tokens)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(batch_starts(tokens, middle)) <= num_parts else (middle + 1, high)
    return low


def learning_rate_at(step: int, num_steps: int, config: TrainingConfig) -> float:
    """Linear warm-up, then linear decay that would reach 0 one step after the last."""
    num_warmup = round(config.warmup_share * num_steps)
    if step < num_warmup:
        return config.learning_rate * (step + 1) / num_warmup
    return config.learning_rate * (num_steps - step) / (num_steps - num_warmup)


class Schedule:
    """All steps of all epochs, by one number: which epoch, which groups."""

    def __init__(self, cache: TokenCache, config: TrainingConfig) -> None:
        self._cache, self._config, self._group_tokens = cache, config, cache.group_tokens()
        self._plan = lru_cache(maxsize=1)(self._plan_epoch)
        self._ends = np.cumsum([len(self._plan(epoch)) for epoch in range(config.epochs)])
        self.num_steps = min(int(self._ends[-1]), config.max_steps or int(self._ends[-1]))

    def epoch(self, step: int) -> int:
        return int(np.searchsorted(self._ends, step, side="right"))

    def batch(self, step: int) -> StepBatch:
        epoch = self.epoch(step)
        groups = self._plan(epoch)[step - int(self._ends[epoch])]  # counted from the epoch's end
        arrays = self._cache.arrays
        return step_batch(groups, self._cache.group_offsets, arrays["triplet_texts"], arrays["text_tokens"])

    def _plan_epoch(self, epoch: int) -> list[Ints]:
        return plan_epoch(
            self._group_tokens,
            self._cache.arrays["group_triplets"],
            triplets_per_step=self._config.triplets_per_step,
            window_steps=self._config.length_window_steps,
            seed=self._config.seed,
            epoch=epoch,
        )
