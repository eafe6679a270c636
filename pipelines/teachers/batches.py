"""Rows through a model in batches; a row that fails is found by halving its batch.

No model in here: `compute` takes row numbers and returns a tensor with one row of numbers for each. All batches are
begun before the first one's numbers are asked for, and a thread tokenises the next texts meanwhile (`read_ahead`): so a
GPU never waits for this process to make the next.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.stage.errors import UserError, describe

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
Part = TypeVar("Part")
Read = TypeVar("Read")

MIN_ALL_FAILED = 16
"""So many rows asked for and not one computed: the model is at fault, though it passed its own check."""

FIRST_PART = 1_024
"""Rows that a GPU waits for; the parts after them are larger."""

logger = logging.getLogger(__name__)


class Scores(NamedTuple):
    """One row per pair, in the order asked."""

    score: Floats  # raw, in the teacher's units; NaN where scoring failed
    relevance: Floats  # 0..1; NaN where scoring failed
    tokens_cut: Integers  # tokens of the pair that the teacher did not read
    error: list[str | None]  # why the pair could not be scored; None when fine


class Outcome(NamedTuple):
    """One row per row asked for."""

    values: Floats  # (rows, width); NaN where the row failed
    error: list[str | None]


def parts(num_rows: int, most: int | None) -> list[slice]:
    """Neighbouring rows that are read together: few at first, then up to `most`; all where that is None."""
    slices, start, size = list[slice](), 0, min(FIRST_PART, most) if most else num_rows
    while start < num_rows:
        slices.append(slice(start, min(start + size, num_rows)))
        start, size = start + size, most or num_rows
    return slices


def read_ahead(read: Callable[[Part], Read], of_parts: Iterable[Part]) -> Iterator[Read]:
    """What each part is read as, in their order; a thread reads the next one while this one is in use.

    One and no more: it takes Python from who feeds the GPU, which has work for a part's time when the reading begins.
    """
    with ThreadPoolExecutor(1) as reader:
        begun = (reader.submit(read, part) for part in of_parts)
        for reading, _ in pairwise(chain(begun, (None,))):
            assert reading is not None, "the last one stands on the right"
            yield reading.result()


def compute_rows(
    batches: Iterable[Rows],
    num_rows: int,
    width: int,
    compute: Callable[[Rows], Tensor],
    check_model: Callable[[], None],
) -> Outcome:
    """Every row's numbers; a batch that raises or gives numbers that are not finite is halved down to the row.

    Args:
        batches: may be made as they are asked for, while a GPU computes those before.
        compute: row numbers -> numbers of shape (rows, width), on any device.
        check_model: called once, when the first row has failed alone; raises UserError if the model itself is broken.
    Raises:
        UserError: none of many rows could be computed: that is the model, not the rows.
    """
    values = np.full((num_rows, width), np.nan, dtype=np.float32)
    error: list[str | None] = [None] * num_rows
    for rows, result in _halved(batches, compute):
        if not isinstance(result, str):
            values[rows] = result
            continue
        if not any(error):
            check_model()
        error[int(rows[0])] = result
    if num_rows >= MIN_ALL_FAILED and all(error):
        raise UserError(f"the teacher could read none of {num_rows} rows; the first: {error[0]}")
    return Outcome(values, error)


def _halved(batches: Iterable[Rows], compute: Callable[[Rows], Tensor]) -> Iterator[tuple[Rows, Floats | str]]:
    """Rows with their numbers, or a single row with why it failed."""
    for rows, begun in [(rows, _begin(rows, compute)) for rows in batches]:
        yield from _end(rows, begun, compute)


def _begin(rows: Rows, compute: Callable[[Rows], Tensor]) -> Tensor | str:
    """What will be the rows' numbers once a GPU is done, or why there are none."""
    try:
        return compute(rows)
    except torch.OutOfMemoryError as error:
        logger.warning("%d rows do not fit the GPU's memory; a smaller batch_tokens avoids halving batches", len(rows))
        failure = describe(error)
    except torch.AcceleratorError:  # leaves the CUDA context broken: no row could be computed after it
        raise
    except Exception as error:  # whatever a model raises on a row is that row's error, once it fails alone
        failure = describe(error)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # not in the handler: the traceback would still hold the batch
    return failure


def _end(rows: Rows, begun: Tensor | str, compute: Callable[[Rows], Tensor]) -> Iterator[tuple[Rows, Floats | str]]:
    """The rows with their numbers or, where some failed, their halves' down to the row."""
    result: Floats | str = begun if isinstance(begun, str) else begun.float().cpu().numpy()
    if not isinstance(result, str) and not np.isfinite(result).all():
        result = "the teacher's output is not finite"
    if not isinstance(result, str) or len(rows) == 1:
        yield rows, result
        return
    for half in np.array_split(rows, 2):
        yield from _end(half, _begin(half, compute), compute)
