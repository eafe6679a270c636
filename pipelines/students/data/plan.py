"""The batch plan: which query groups make a step, and which of the step's texts each rank embeds.

    plan_epoch    groups -> steps     a pure function of (seed, epoch, lengths), never of the number of ranks
    step_batch    a step's groups -> its unique texts, and its triplets and candidates as rows of them
    share_texts   unique texts -> sub-forwards of similar length, evenly over ranks
    Schedule      the steps of all epochs by number; learning_rate_at: the rate of each

A group is a query with all its positives and negatives; of plain texts, each is one. Sorting groups by length hardly
saves padding; sorting the *texts* of a step does, so a sub-forward holds texts of any group, and the loss is computed
over the whole step.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.stage.errors import UserError
from pipelines.students.data.candidates import draw, keys
from pipelines.students.data.token_cache import TokenCache
from pipelines.students.training_config import BatchConfig, TrainingConfig
from pipelines.texts.token_batches import batch_starts

Ints = NDArray[np.integer]
NOTHING = np.zeros(0, dtype=np.int64)


class StepBatch(NamedTuple):
    """One step: its unique texts, longest first, and its triplets and candidates as rows of `texts`."""

    texts: Ints
    query: Ints
    positive: Ints
    negative: Ints
    triplets: Ints  # which triplets of the token cache: their targets
    is_query: NDArray[np.bool_] = np.zeros(0, dtype=bool)  # of each text, whether it is a query or a passage
    candidate_query: Ints = NOTHING
    candidate_passage: Ints = NOTHING
    candidates: Ints = NOTHING  # which candidates of the token cache: their targets


def plan_epoch(
    group_tokens: Ints,
    group_triplets: Ints,
    *,
    triplets_per_step: int,
    window_steps: int,
    seed: int,
    epoch: int,
    turn: int = 0,
) -> list[Ints]:
    """Shuffle the groups, sort them by length inside windows of `window_steps` steps, cut, shuffle the steps.

    A group goes to the step in which its first triplet falls, whole: steps have `triplets_per_step` triplets on
    average and differ by less than a group. Every other window is sorted downwards, so that a step across two
    windows holds similar lengths too. Ten million groups take about four seconds. Returns the groups of each step.

    Args:
        turn: which of the epoch's passes over the groups, where it has several.
    """
    if not len(group_tokens):
        return []
    generator = np.random.Generator(np.random.PCG64([seed, epoch, turn] if turn else [seed, epoch]))
    shuffled = generator.permutation(len(group_tokens))
    window = _step_of(group_triplets[shuffled], triplets_per_step) // window_steps
    length = group_tokens[shuffled].astype(np.int64)
    upwards = np.where(window % 2 == 0, length, length.max() - length)
    order = shuffled[np.argsort(window * (length.max() + 1) + upwards, kind="stable")]
    step = _step_of(group_triplets[order], triplets_per_step)
    steps = np.split(order, np.flatnonzero(np.diff(step)) + 1)
    return [steps[number] for number in generator.permutation(len(steps))]


def turns_of_groups(group_weights: NDArray[np.float64], *, seed: int, epoch: int) -> list[Ints]:
    """The groups of each pass of an epoch in which a group is seen as often as its weight says, in expectation.

    A weight of 2.3 is 2 times, and with a chance of .3 a third time; each time in another pass, evenly apart. So no
    group is twice in a step, and every pass mixes the sources alike.
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch, *b"turns"]))
    times = np.floor(group_weights + generator.random(len(group_weights))).astype(np.int64)
    num_turns = int(times.max(initial=0))
    group = np.repeat(np.arange(len(times)), times)
    number = np.arange(len(group)) - np.repeat(np.cumsum(times) - times, times)
    turn = np.floor((number + generator.random(len(times))[group]) * num_turns / times[group]).astype(np.int64)
    by_turn = np.argsort(turn, kind="stable")
    return np.split(group[by_turn], np.searchsorted(turn[by_turn], np.arange(1, num_turns))) if num_turns else []


def step_batch(cache: TokenCache, groups: Ints, config: BatchConfig | None = None, epoch: int = 0) -> StepBatch:
    """The unique texts, the triplets and the candidates of some groups: all, or those that `config` draws."""
    groups, arrays = np.sort(groups), cache.arrays
    triplets, group_B = _runs(cache.group_offsets, groups)
    candidates, group_C = _runs(cache.candidate_offsets, groups)
    if config is not None and config.candidates_per_query is not None:
        is_in = _drawn(cache, groups, triplets, group_B, candidates, group_C, config, epoch)
        negatives, passages = arrays["triplet_texts"][triplets, 2], arrays["candidate_passages"][candidates]
        triplets = triplets[np.isin(_paired(group_B, negatives), _paired(group_C, passages)[is_in])]
        candidates, group_C = candidates[is_in], group_C[is_in]
    query_G = arrays["triplet_texts"][cache.group_offsets[groups], 0]
    named = [arrays["triplet_texts"][triplets].ravel(), query_G[group_C], arrays["candidate_passages"][candidates]]
    texts, rows = np.unique(np.concatenate(named), return_inverse=True)
    longest_first = np.argsort(-cache.text_tokens[texts].astype(np.int64), kind="stable")
    place = np.empty_like(longest_first)
    place[longest_first] = np.arange(len(texts))
    of_triplets, candidate_query, candidate_passage = np.split(place[rows], np.cumsum([len(one) for one in named[:2]]))
    query, positive, negative = of_triplets.reshape(-1, 3).T
    texts = texts[longest_first]
    is_query = arrays["text_is_query"][texts]
    return StepBatch(
        texts, query, positive, negative, triplets, is_query, candidate_query, candidate_passage, candidates
    )


def text_batch(cache: TokenCache, texts: Ints) -> StepBatch:
    """Some plain texts, longest first."""
    texts = np.sort(texts)
    texts = texts[np.argsort(-cache.text_tokens[texts].astype(np.int64), kind="stable")]
    return StepBatch(texts, NOTHING, NOTHING, NOTHING, NOTHING, is_query=cache.arrays["text_is_query"][texts])


def _drawn(
    cache: TokenCache,
    groups: Ints,
    triplets: Ints,
    group_B: Ints,
    candidates: Ints,
    group_C: Ints,
    config: BatchConfig,
    epoch: int,
) -> NDArray[np.bool_]:
    """Which of the groups' candidates are in."""
    passages, texts = cache.arrays["candidate_passages"][candidates], cache.arrays["triplet_texts"][triplets]
    assert config.candidates_per_query is not None, "all are in"
    return draw(
        group_C,
        cache.arrays["candidate_targets"][candidates, 0],
        np.isin(_paired(group_C, passages), _paired(group_B, texts[:, 1])),
        np.isin(_paired(group_C, passages), _paired(group_B, texts[:, 2])),
        keys(config.seed, epoch, groups[group_C], candidates - cache.candidate_offsets[groups][group_C]),
        num_each=config.candidates_per_query,
        how=config.candidates,
    )


def _runs(offsets: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """What the groups have, one group after the other, and of each the place of its group in `groups`."""
    starts, counts = offsets[groups], offsets[groups + 1] - offsets[groups]
    place = np.repeat(np.arange(len(groups)), counts)
    return np.arange(len(place)) + np.repeat(starts - np.cumsum(counts) + counts, counts), place


def _paired(group: Ints, text: Ints) -> Ints:
    """One number for a group and a text."""
    return group.astype(np.int64) << 32 | text


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


def padded_tokens(tokens: Ints, sub_forwards: Sequence[Ints]) -> int:
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
        """Raises UserError when the weights of the sources are so small that no epoch sees anything."""
        self._cache, self._config = cache, config
        if config.data == "texts":
            self._tokens: Ints = cache.text_tokens
            self._sizes: Ints = np.ones(len(cache.text_tokens), dtype=np.int64)
        else:
            self._tokens, self._sizes = cache.group_tokens(), self._drawn_triplets()
        self._plan = lru_cache(maxsize=1)(self._plan_epoch)
        self._ends = np.cumsum([len(self._plan(epoch)) for epoch in range(config.epochs)])
        self.num_steps = min(int(self._ends[-1]), config.max_steps or int(self._ends[-1]))
        if not self.num_steps:
            raise UserError(
                f"distill.source_weights are so small that {config.epochs} epochs of {len(self._tokens):,} queries "
                "have no step; raise them"
            )

    def epoch(self, step: int) -> int:
        return int(np.searchsorted(self._ends, step, side="right"))

    def batch(self, step: int) -> StepBatch:
        epoch = self.epoch(step)
        planned = self._plan(epoch)[step - int(self._ends[epoch])]  # counted from the epoch's end
        if self._config.data == "texts":
            return text_batch(self._cache, planned)
        return step_batch(self._cache, planned, self._config, epoch)

    def _plan_epoch(self, epoch: int) -> list[Ints]:
        config = self._config
        per_step = config.texts_per_step if config.data == "texts" else config.triplets_per_step
        settings = {"triplets_per_step": per_step, "window_steps": config.length_window_steps}
        settings |= {"seed": config.seed, "epoch": epoch}
        if config.data == "texts" or not config.source_weights:
            return plan_epoch(self._tokens, self._sizes, **settings)
        weights = np.array([config.source_weights.get(source, 1.0) for source in self._cache.sources])
        turns = turns_of_groups(weights[self._cache.arrays["group_source"]], seed=config.seed, epoch=epoch)
        return [
            groups[step]
            for turn, groups in enumerate(turns)
            for step in plan_epoch(self._tokens[groups], self._sizes[groups], turn=turn, **settings)
        ]

    def _drawn_triplets(self) -> Ints:
        """About the triplets of each group that a step sees: in proportion to the candidates that are drawn.

        Reckoned with one positive, as most queries have: so a step has the size that is asked for.
        """
        triplets: Ints = self._cache.arrays["group_triplets"]
        num_each = self._config.candidates_per_query
        if num_each is None:
            return triplets
        others = np.maximum(1, self._cache.arrays["group_candidates"] - 1)
        drawn: Ints = np.maximum(1, np.rint(triplets * np.minimum(1.0, (num_each - 1) / others))).astype(np.int64)
        return drawn
