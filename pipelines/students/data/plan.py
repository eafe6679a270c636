"""The batch plan: which query groups make a step, and which of the step's texts each rank embeds.

    plan_epoch    groups -> steps     a pure function of (seed, epoch, lengths), never of the number of ranks
    step_batch    a step's groups -> its unique texts, and its triplets as rows of them
    share_texts   unique texts -> sub-forwards of similar length, evenly over ranks

A group is a query with all its positives and negatives. Sorting groups by length hardly saves padding; sorting the
*texts* of a step does, so a sub-forward holds texts of any group, and the loss is computed over the whole step.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.texts.token_batches import batch_starts

Ints = NDArray[np.integer]


class EpochPlan(NamedTuple):
    """The steps of one epoch, in order: step s trains on `order[starts[s]:ends[s]]`."""

    order: Ints  # every group once
    starts: Ints
    ends: Ints

    @property
    def num_steps(self) -> int:
        return len(self.starts)

    def groups(self, step: int) -> Ints:
        """The groups of one step, ascending."""
        return np.sort(self.order[self.starts[step] : self.ends[step]])


class StepBatch(NamedTuple):
    """One step: its unique texts, longest first, and its triplets as rows of `texts`."""

    texts: Ints
    query: Ints
    positive: Ints
    negative: Ints
    triplets: Ints  # which triplets of the token cache: their targets


def plan_epoch(
    group_tokens: Ints, group_triplets: Ints, *, triplets_per_step: int, window_steps: int, seed: int, epoch: int
) -> EpochPlan:
    """Shuffle the groups, sort them by length inside windows of `window_steps` steps, cut, shuffle the steps.

    A group goes to the step in which its first triplet falls, whole: steps have `triplets_per_step` triplets on
    average and differ by less than a group. Every other window is sorted downwards, so that a step across two
    windows holds similar lengths too. Ten million groups take about four seconds.
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    shuffled = generator.permutation(len(group_tokens))
    window = _step_of(group_triplets[shuffled], triplets_per_step) // window_steps
    length = group_tokens[shuffled].astype(np.int64)
    upwards = np.where(window % 2 == 0, length, length.max() - length)
    order = shuffled[np.argsort(window * (length.max() + 1) + upwards, kind="stable")]
    step = _step_of(group_triplets[order], triplets_per_step)
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(step)) + 1, [len(order)]])
    shuffled_steps = generator.permutation(len(bounds) - 1)
    return EpochPlan(order, bounds[:-1][shuffled_steps], bounds[1:][shuffled_steps])


def step_batch(groups: Ints, group_offsets: Ints, triplet_texts: Ints, text_tokens: Ints) -> StepBatch:
    """The unique texts and the triplets of some groups.

    Args:
        group_offsets: group g has the triplets `group_offsets[g]` to `group_offsets[g + 1]`.
        triplet_texts: shape (triplets, 3): text indices of query, positive and negative.
        text_tokens: tokens of each text of the cache.
    """
    triplets = np.concatenate([np.arange(group_offsets[group], group_offsets[group + 1]) for group in groups])
    texts, rows = np.unique(triplet_texts[triplets], return_inverse=True)
    longest_first = np.argsort(-text_tokens[texts].astype(np.int64), kind="stable")
    place = np.empty_like(longest_first)
    place[longest_first] = np.arange(len(texts))
    query, positive, negative = place[rows.reshape(-1, 3)].T
    return StepBatch(texts[longest_first], query, positive, negative, triplets)


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
