"""Texts of similar length in batches of a token budget, padding included: longest first, whoever embeds them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


def token_batches(num_tokens: Sequence[int] | NDArray[np.integer[Any]], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Row numbers, longest rows first, in batches of at most `batch_tokens` tokens with padding (or of one row).

    Rows of equal length keep their order, so equal input gives equal batches.
    """
    lengths = np.maximum(np.asarray(num_tokens, dtype=np.int64), 1)
    longest_first = np.argsort(-lengths, kind="stable")
    starts = batch_starts(lengths[longest_first], batch_tokens)
    return [longest_first[start:end] for start, end in pairwise([*starts, len(lengths)])]


def batch_starts(tokens: NDArray[np.integer[Any]], batch_tokens: int) -> list[int]:
    """Where each batch of `token_batches` starts, in rows that are sorted longest first and have a token or more."""
    starts, start = [], 0
    while start < len(tokens):
        starts.append(start)
        start += max(1, batch_tokens // int(tokens[start]))
    return starts
