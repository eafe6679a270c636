"""Candidates by BM25 with the seed among them, and what grades make of them."""

from math import nan

import pytest

from pipelines.generation.ranking import Candidate, Candidates, Choice, choose, prefer

PASSAGES = ["red fish", "blue fish", "green fish red", "a bird", "red red red fish"]


def test_the_seed_is_among_the_candidates_though_bm25_does_not_find_it():
    found = Candidates(PASSAGES, 2).of("red fish", seed=3)

    assert found == [Candidate(3, None), Candidate(4, 1)]


def test_candidates_stand_in_the_order_of_passages_with_bm25s_ranks():
    found = Candidates(PASSAGES, 4).of("green", seed=0)

    assert found == [Candidate(0, None), Candidate(2, 1)]


@pytest.mark.parametrize(
    ("grades", "choice"),
    [
        ([3, 2, 1, 0], Choice(0, 3, [0, 1])),  # of grades 1 and 0 the one that BM25 ranks higher
        ([2, 3, 0, 0], Choice(1, 3, [0, 1])),  # relabelled
        ([3, 3, 1, 1], Choice(0, 3, [0, 1])),  # the seed, as good as another
        ([1, 2, 2, 3], Choice(3, 0, [1, 2, 3])),
        ([2, 2, 3, 3], Choice(3, None, [0, 1, 2, 3])),  # of two as good, BM25's better; none is negative
        ([1, 1, 1, 1], None),
    ],
)
def test_the_best_graded_is_the_positive_and_the_hardest_other_the_negative(grades, choice):
    candidates = [Candidate(10, 2), Candidate(20, 1), Candidate(30, 4), Candidate(40, 3)]

    assert choose(candidates, grades, seed=10, min_positive=2, max_negative=1) == choice


def test_a_seed_that_bm25_does_not_find_is_no_hard_negative():
    candidates = [Candidate(10, None), Candidate(20, 1)]

    assert choose(candidates, [0, 3], seed=10, min_positive=2, max_negative=1) == Choice(1, None, [1])


@pytest.mark.parametrize(
    ("scores", "choice"),
    [
        ([4.0, 3.5, 1.0, 2.0], Choice(0, 3, [0, 1])),  # 3.5 is as good as the seed; of the others BM25's better
        ([3.5, 4.0, 1.0, 2.0], Choice(0, 3, [0, 1])),  # the seed, as good as the best
        ([3.0, 4.0, 3.9, 2.0], Choice(1, 0, [1, 2])),  # relabelled, and the seed no answer
        ([3.0, 3.9, 3.9, 4.0], Choice(3, 0, [1, 2, 3])),  # the best, not the one that BM25 likes
        ([2.0, 4.0, 1.0, 4.0], Choice(1, 0, [1, 3])),  # of equals BM25's better
        ([4.0, 4.0, 4.0, 4.0], Choice(0, None, [0, 1, 2, 3])),
        ([nan, 4.0, nan, 3.0], Choice(1, 3, [1])),  # what has no score is neither
        ([nan, nan, nan, nan], None),
    ],
)
def test_the_seed_is_the_positive_where_its_score_is_near_the_best(scores, choice):
    candidates = [Candidate(10, 2), Candidate(20, 1), Candidate(30, 4), Candidate(40, 3)]

    assert prefer(candidates, scores, seed=10, within=0.5) == choice


def test_a_seed_that_bm25_does_not_find_may_be_the_best_and_is_no_hard_negative():
    candidates = [Candidate(10, None), Candidate(20, 1)]

    assert prefer(candidates, [3.0, 0.0], seed=10, within=0.5) == Choice(0, 1, [0])
    assert prefer(candidates, [0.0, 3.0], seed=10, within=0.5) == Choice(1, None, [1])
