"""The student that is taken: its trained weights, averaged with those that the training began with.

A start that is a whole model knows texts that the training never shows; what is learnt beside it is kept, too. The
start goes with each checkpoint, so a run that was killed ends with the same bytes.

Source: Wortsman et al. 2022 (WiSE-FT), https://arxiv.org/abs/2109.01903.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

KEY = "start"


class StartAverage:
    """`share` of the start's weights and the rest of the trained ones, over all that is trained; share 0 is off."""

    def __init__(self, trained: nn.Module, share: float) -> None:
        self._parameters, self._share = {n: p for n, p in trained.named_parameters() if p.requires_grad}, share
        self._start: dict[str, Tensor] = {}  # in the CPU's memory

    def begin(self) -> None:
        """The weights as they are now are the start."""
        if self._share:
            self._start = _copied(self._parameters)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {KEY: self._start} if self._share else {}

    def load(self, state: Mapping[str, Any]) -> None:
        """The start, from a checkpoint."""
        if self._share:
            self._start = _copied(state[KEY])

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average where the trained weights are."""
        for name, start in self._start.items():
            self._parameters[name].lerp_(start.to(self._parameters[name].device), self._share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The average inside, the trained weights again after it, to the last bit."""
        trained = _copied(self._parameters) if self._share else {}
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in trained.items():
                    self._parameters[name].copy_(weight)


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().to("cpu", copy=True) for name, weight in weights.items()}
