"""Texts laid end to end: where each lies, its positions, and the groups in which a CPU attends to them.

Texts stand longest first, so neighbours are of similar length and a group is a run of them. Only attention sees a
group's padding; embeddings, linear layers and norms see tokens alone.

Shape letters of this package: T = tokens of all texts, N = texts, L = longest text of a group, H = heads, d = width of
a head, W = tokens a token sees to each side of itself.
"""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LONGEST_IN_A_GROUP = 512
"""Tokens: the scores of a longer text, its length squared, are never held at once."""
SHORTEST_SHARE = 0.6
"""Of the longest text of a group, in tokens: shorter texts begin another group."""
FEWEST_TOKENS = 16
"""Texts up to this length are one group: their scores cost less than another group."""


def on_device(numbers: NDArray[Any], device: torch.device) -> Tensor:
    """A copy there, in its turn: this process does not wait until a GPU has done what stands before it."""
    tensor = torch.from_numpy(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


class Group(NamedTuple):
    """Neighbouring texts that attention takes together, padded to the longest of them."""

    texts: int
    longest: int
    tokens: int  # of the texts, without padding
    place_T: Tensor  # the place of each token among texts * longest padded ones
    token_NL: Tensor  # the token at each padded place, any where there is none, flat
    bias_N11L: Tensor | None  # 0, or -inf where there is no token; None where all texts are equally long


class Layout:
    """Where texts of these lengths lie, on a device. Raises ValueError when they don't stand longest first."""

    def __init__(self, lengths: NDArray[np.integer], device: torch.device) -> None:
        if not len(lengths) or lengths[-1] < 1 or (np.diff(lengths) > 0).any():
            raise ValueError(f"the lengths are {lengths.tolist()}, expected one or more above 0, the largest first")
        self.device, self._lengths = device, lengths.astype(np.int64)
        self.longest, self.num_tokens = int(lengths[0]), int(self._lengths.sum())
        starts = np.concatenate([[0], np.cumsum(self._lengths)])
        self.lengths_N = on_device(self._lengths, device)
        self.starts_N1 = on_device(starts.astype(np.int32), device)  # cu_seqlens, as kernels call it
        self.rows_N1 = torch.arange(len(starts), dtype=torch.int32, device=device)  # the same of one token a text
        texts = torch.arange(len(lengths), device=device)
        self.text_T = texts.repeat_interleave(self.lengths_N, output_size=self.num_tokens)
        self.position_T = torch.arange(self.num_tokens, device=device) - self.starts_N1[self.text_T]
        self._windows: dict[int, Tensor] = {}

    @cached_property
    def groups(self) -> list[Group]:
        """The groups, in the order of the texts."""
        groups, first = [], 0
        while first < len(self._lengths):
            longest = int(self._lengths[first])
            shortest = 0 if longest <= FEWEST_TOKENS else SHORTEST_SHARE * longest
            rest = self._lengths[first:]
            end = first + (1 if longest > LONGEST_IN_A_GROUP else int((rest >= shortest).sum()))
            groups.append(self._group(self._lengths[first:end]))
            first = end
        return groups

    def _group(self, lengths: NDArray[np.int64]) -> Group:
        longest, tokens = int(lengths[0]), int(lengths.sum())
        is_token = np.arange(longest) < lengths[:, None]
        place = np.flatnonzero(is_token)
        token = np.zeros(is_token.size, dtype=np.int64)
        token[place] = np.arange(tokens)
        bias = None
        if not is_token.all():
            bias = torch.zeros(is_token.shape).masked_fill_(torch.from_numpy(~is_token), -torch.inf)[:, None, None]
            bias = bias.to(self.device)
        places, token_at = (torch.as_tensor(rows, device=self.device) for rows in (place, token))
        return Group(len(lengths), longest, tokens, places, token_at, bias)

    def window_bias(self, window: int) -> Tensor:
        """Bias of blocks of `window` tokens against themselves and the blocks on both sides, (blocks, 1, W, 3 W).

        0 within the window of one text, else -inf. The tokens that fill the last block up see one another.
        """
        if window not in self._windows:
            num_blocks = -(-self.num_tokens // window)
            text = torch.full(((num_blocks + 2) * window,), -1, device=self.device)
            text[window : (num_blocks + 1) * window] = -2
            text[window : window + self.num_tokens] = self.text_T
            key_text = text.unfold(0, 3 * window, window)  # (blocks, 3 W)
            query_text = key_text[:, window : 2 * window]
            step = torch.arange(3 * window, device=self.device) - window
            is_near = (step - torch.arange(window, device=self.device)[:, None]).abs() <= window
            is_seen = is_near & (query_text[:, :, None] == key_text[:, None, :])
            bias = torch.zeros(is_seen.shape, device=self.device).masked_fill_(~is_seen, -torch.inf)
            self._windows[window] = bias[:, None]
        return self._windows[window]
