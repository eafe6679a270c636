"""The halving of batches that finds a row that fails."""

import numpy as np
import pytest
import torch

from pipelines.stage.errors import UserError
from pipelines.teachers.batches import FIRST_PART, MIN_ALL_FAILED, compute_rows, parts, read_ahead
from pipelines.texts.token_batches import token_batches


def never_broken() -> None:
    """A model that passes its own check."""


def test_parts_are_all_rows_in_their_order_and_the_first_is_small():
    slices = parts(10_000, 4_096)

    assert [row for part in slices for row in range(10_000)[part]] == list(range(10_000))
    assert [part.stop - part.start for part in slices] == [FIRST_PART, 4_096, 4_096, 10_000 - FIRST_PART - 2 * 4_096]
    assert parts(10_000, None) == [slice(0, 10_000)]
    assert parts(0, 4_096) == parts(0, None) == []


def test_one_part_is_read_ahead_and_no_more():
    begun = []

    def read(part):
        begun.append(part)
        if part == 3:
            raise OSError("cannot be read")
        return 10 * part

    reading = read_ahead(read, range(5))

    assert next(reading) == 0
    assert next(reading) == 10
    assert set(begun) <= {0, 1, 2}
    assert next(reading) == 20
    with pytest.raises(OSError, match="cannot be read"):
        next(reading)


def test_a_row_that_raises_is_found_and_only_it():
    calls = []

    def compute(rows):
        calls.append(len(rows))
        if 5 in rows:
            raise ValueError("row 5\nsecond line")
        return torch.from_numpy(rows[:, None])

    outcome = compute_rows(token_batches([1] * 8, 8), 8, 1, compute, never_broken)

    assert outcome.error == [None] * 5 + ["ValueError: row 5"] + [None] * 2
    np.testing.assert_array_equal(outcome.values[:, 0], [0, 1, 2, 3, 4, np.nan, 6, 7])
    assert calls == [8, 4, 4, 2, 1, 1, 2]


def test_all_batches_are_begun_before_the_first_one_s_numbers_are_asked_for():
    told = []

    class Numbers(torch.Tensor):
        def float(self):
            told.append("asked")
            return torch.zeros(len(self), 1)

    def compute(rows):
        told.append("begun")
        return torch.zeros(len(rows), 1).as_subclass(Numbers)

    compute_rows(token_batches([1] * 6, 2), 6, 1, compute, never_broken)

    assert told == ["begun"] * 3 + ["asked"] * 3


def test_a_row_whose_numbers_are_not_finite_is_found_and_only_it():
    def compute(rows):
        return torch.from_numpy(np.where(rows == 2, np.inf, rows)[:, None])

    outcome = compute_rows(token_batches([1] * 6, 3), 6, 1, compute, never_broken)

    assert [row for row, why in enumerate(outcome.error) if why] == [2]


def test_running_out_of_memory_halves_the_batch_and_is_no_error_of_a_row():
    def compute(rows):
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.from_numpy(rows[:, None])

    outcome = compute_rows(token_batches([1] * 8, 8), 8, 1, compute, never_broken)

    assert outcome.error == [None] * 8
    assert outcome.values[:, 0].tolist() == list(range(8))


def test_a_broken_cuda_context_stops_everything():
    def compute(rows):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(torch.AcceleratorError):
        compute_rows(token_batches([1, 1], 8), 2, 1, compute, never_broken)


def test_a_model_that_computes_none_of_many_rows_is_refused_with_the_first_error():
    def compute(rows):
        raise ValueError("no")

    with pytest.raises(UserError, match=f"none of {MIN_ALL_FAILED} rows; the first: ValueError: no"):
        compute_rows(token_batches([1] * MIN_ALL_FAILED, 8), MIN_ALL_FAILED, 1, compute, never_broken)
