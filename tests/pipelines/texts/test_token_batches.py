"""Batches of a token budget."""

import numpy as np

from pipelines.texts.token_batches import batch_starts, token_batches


def test_batches_hold_every_row_once_longest_first_within_the_budget():
    batches = [rows.tolist() for rows in token_batches([3, 10, 3, 7, 50], batch_tokens=14)]

    assert batches == [[4], [1], [3, 0], [2]]


def test_rows_of_equal_length_keep_their_order_and_an_empty_row_counts_as_one_token():
    assert np.concatenate(token_batches([5] * 100, batch_tokens=40)).tolist() == list(range(100))
    assert [rows.tolist() for rows in token_batches([0, 1, 0], batch_tokens=2)] == [[0, 1], [2]]


def test_no_rows_give_no_batches():
    assert token_batches([], batch_tokens=8) == []
    assert batch_starts(np.array([], dtype=np.int32), batch_tokens=8) == []


def test_a_row_beyond_the_budget_is_a_batch_of_its_own():
    assert batch_starts(np.array([90, 50, 20, 20, 7], dtype=np.uint16), batch_tokens=50) == [0, 1, 2, 4]
