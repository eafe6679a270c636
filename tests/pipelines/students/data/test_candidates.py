"""The draw of a query's candidates: its positives and so many others, over the whole range of scores, by seed alone."""

import numpy as np
import pytest

from pipelines.students.data.candidates import draw, keys


def drawn(how, num_each, sizes=(40,), positives=(0,), negatives=None, seed=0, epoch=0):
    """Of groups of candidates with scores that fall from 1 to 0: the positions that are in, group by group."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    position = np.concatenate([np.arange(size) for size in sizes])
    score = np.concatenate([np.linspace(1, 0, size) for size in sizes]).astype(np.float32)
    is_positive = np.isin(position, positives)
    is_negative = ~is_positive if negatives is None else np.isin(position, negatives)
    key = keys(seed, epoch, 100 + group, position)
    is_in = draw(group, score, is_positive, is_negative, key, num_each=num_each, how=how)
    return [position[is_in & (group == one)].tolist() for one in range(len(sizes))]


@pytest.mark.parametrize("how", ["stratified", "hardest", "random"])
@pytest.mark.parametrize("num_each", [2, 8, 64])
def test_every_query_has_its_positives_and_as_many_as_asked_for_or_all(how, num_each):
    sizes = (1, 3, 8, 9, 64, 300)
    for size, positions in zip(sizes, drawn(how, num_each, sizes, positives=(0, 2)), strict=True):
        num_positives = min(size, 1) if size < 3 else 2
        assert set(positions) >= {0, 2} & set(range(size))
        assert len(positions) == min(size, max(num_each, num_positives + 1))


@pytest.mark.parametrize(("size", "num_each"), [(64, 8), (65, 9), (1_000, 32), (20, 19)])
def test_stratified_has_one_of_each_equal_part_of_the_scores(size, num_each):
    others = size - 1
    for epoch in range(20):
        (positions,) = drawn("stratified", num_each, (size,), epoch=epoch)
        ranks = np.array(positions[1:]) - 1
        assert (ranks * (num_each - 1) // others).tolist() == list(range(num_each - 1))


def test_every_candidate_of_a_part_is_drawn_as_often():
    counts = np.zeros(41)
    for epoch in range(4_000):
        counts[drawn("stratified", 5, (41,), epoch=epoch)[0]] += 1

    assert counts[0] == 4_000
    assert np.abs(counts[1:] - 400).max() < 5 * np.sqrt(400)


def test_hardest_are_the_highest_scores_and_ties_go_by_position():
    assert drawn("hardest", 4, (10, 3), positives=(5,)) == [[0, 1, 2, 5], [0, 1, 2]]


@pytest.mark.parametrize("how", ["stratified", "hardest", "random"])
def test_one_negative_of_a_triplet_is_always_among_them(how):
    for epoch in range(30):
        (positions,) = drawn(how, 5, (200,), negatives=(150, 170), epoch=epoch)
        assert len(positions) == 5
        assert {150, 170} & set(positions)


@pytest.mark.parametrize("how", ["stratified", "random"])
def test_a_draw_is_a_function_of_seed_epoch_and_group_whatever_other_groups_the_step_has(how):
    alone, among = drawn(how, 8, (50,), epoch=3), drawn(how, 8, (50, 7, 90), epoch=3)

    assert among[0] == alone[0]
    assert drawn(how, 8, (50, 50), epoch=3)[1] != alone[0]
    assert drawn(how, 8, (50,), epoch=4) != alone
    assert drawn(how, 8, (50,), epoch=3, seed=1) != alone
