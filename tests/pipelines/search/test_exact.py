"""Exact search against a full sort in numpy, with ties, cuts and blocks of any size."""

import numpy as np
import pytest

from pipelines.search.exact import search

SEEDED = np.random.default_rng(11)


def blocks(passages, size):
    return [passages[start : start + size] for start in range(0, len(passages), size)]


def sorted_by_cosine(queries, passages, dimension):
    """Reference: float64 cosines of the cut vectors, a stable sort."""
    units = [v[:, :dimension] / np.linalg.norm(v[:, :dimension], axis=1, keepdims=True) for v in (queries, passages)]
    cosines = units[0].astype(np.float64) @ units[1].astype(np.float64).T
    return np.argsort(-np.round(cosines, 6), axis=1, kind="stable")


@pytest.mark.parametrize("block_size", [1, 7, 60, 1000])
@pytest.mark.parametrize("k", [5, 100])
def test_search_equals_a_full_sort_at_every_dimension_and_block_size(block_size, k):
    queries, passages = (SEEDED.standard_normal((n, 8)).astype(np.float32) for n in (9, 60))

    found = search(queries, blocks(passages, block_size), [8, 3], k)

    for dimension in (8, 3):
        assert np.array_equal(found[dimension], sorted_by_cosine(queries, passages, dimension)[:, :k])


@pytest.mark.parametrize("block_size", [1, 3, 50])
def test_equal_scores_stand_in_the_order_of_the_passages(block_size):
    passages = np.tile(np.eye(4, dtype=np.float32), (10, 1))  # each of four vectors ten times

    found = search(np.eye(4, dtype=np.float32)[:1], blocks(passages, block_size), [4], 14)[4]

    assert found.tolist() == [[0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 1, 2, 3, 5]]


def test_vectors_are_made_unit_length_after_the_cut():
    passages = np.array([[1, 9, 0], [2, 0, 0], [1, 1, 9]], dtype=np.float32)

    found = search(np.array([[1, 0, 0]], dtype=np.float32), [passages], [3, 2], 3)

    assert found[3].tolist() == [[1, 0, 2]]
    assert found[2].tolist() == [[1, 2, 0]]


def test_a_text_that_could_not_be_encoded_is_near_to_nothing():
    passages = np.array([[np.nan, np.nan], [1, 0], [-1, 0]], dtype=np.float32)

    assert search(np.array([[1, 0]], dtype=np.float32), [passages], [2], 3)[2].tolist() == [[1, 0, 2]]
