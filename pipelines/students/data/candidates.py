"""Which of a query's candidates a step sees: drawn for each epoch anew, the same on every rank.

    a step's groups, (seed, epoch) --draw--> their candidates that are in

A draw is a function of seed, epoch and group alone: nothing is planned ahead, and nothing is held in memory.

Shape letters: G = groups of the step, C = their candidates, all of a group side by side.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.students.data.token_cache import Array

Numbers = NDArray[np.uint64]
Bools = NDArray[np.bool_]
How = Literal["stratified", "hardest", "random"]


def draw(
    group_C: Array, score_C: Array, is_positive_C: Bools, is_negative_C: Bools, key_C: Array, *, num_each: int, how: How
) -> Bools:
    """Which candidates are in: `num_each` of each group, its positives among them, and at least one other.

    One other is always a triplet's negative, so that no group is without a triplet. The others are `stratified` (the
    candidates in the order of their scores are cut into equal parts, and one of each is drawn), `hardest` (the highest
    scores) or `random`.

    Args:
        group_C: ascending numbers of the groups.
        is_positive_C, is_negative_C: whether a triplet of the group has it as that.
        key_C: what decides between candidates, from 0 up: `keys`.
    Source: Ettin's rerankers, and https://arxiv.org/abs/2604.04734, of covering the range of the teacher's scores.
    """
    is_in = is_positive_C.copy()
    others = np.flatnonzero(~is_positive_C)
    if not len(others):
        return is_in
    group, first = np.unique(group_C[others], return_index=True)  # those that have others
    num_positives = np.bincount(group_C[is_positive_C], minlength=group_C.max() + 1)[group]
    size = np.diff([*first, len(others)])
    num_drawn = np.minimum(size, np.maximum(1, num_each - num_positives))
    row = np.repeat(np.arange(len(group)), size)
    falling = -score_C[others].astype(np.float64)
    key = falling if how == "hardest" else key_C[others].astype(np.float64)
    key = _with_a_negative_first(row, key, is_negative_C[others])
    part = np.zeros(len(others), dtype=np.int64)
    if how == "stratified":
        by_score = np.lexsort((falling, row))
        rank = np.arange(len(others)) - np.repeat(first, size)
        part[by_score] = rank * num_drawn[row] // size[row]
    order = np.lexsort((key, part, row))  # rows stay where they are: each row's first ones are in, or each part's
    begins = first[row] if how != "stratified" else _starts(row[order], part[order])
    wanted = num_drawn[row] if how != "stratified" else 1
    is_in[others[order[np.arange(len(others)) - begins < wanted]]] = True
    return is_in


def keys(seed: int, epoch: int, group_C: Array, position_C: Array) -> Numbers:
    """A number below 2**53 for each candidate, by its group and its position there: splitmix64 of all four."""
    mixed = np.zeros(len(group_C), dtype=np.uint64)
    for part in (seed, epoch, group_C, position_C):
        mixed = _mixed(mixed ^ np.asarray(part, dtype=np.uint64))
    return mixed >> np.uint64(11)


def _mixed(values: Numbers) -> Numbers:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), after its increment."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _with_a_negative_first(row: Array, key: Array, is_negative: Bools) -> Array:
    """The keys, that of each row's negative with the lowest one made lower than all."""
    negatives = np.flatnonzero(is_negative)
    lowest_first = negatives[np.lexsort((key[negatives], row[negatives]))]
    _, first = np.unique(row[lowest_first], return_index=True)
    key = key.copy()
    key[lowest_first[first]] = -np.inf
    return key


def _starts(*numbers: Array) -> Array:
    """For each place of equally long sorted arrays, where the run of equal values that it is in starts."""
    is_start = np.any([np.diff(one, prepend=-1) != 0 for one in numbers], axis=0)
    return np.maximum.accumulate(np.where(is_start, np.arange(len(is_start)), 0))
