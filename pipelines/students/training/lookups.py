"""The token embeddings that a step's sub-forwards look up: one gradient of the table for all of them.

A lookup's own gradient is as large as the table, mostly zeros, and is made and added up for every sub-forward: 47 MB
each for MiniLM. Here a sub-forward leaves the gradients of its tokens, and the table's is made once, in the order in
which the sub-forwards' would have been added up: to the last bit the same.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Found = list[tuple[Tensor, Tensor]]
"""Token ids, and the gradients of what was looked up for them."""


class SharedLookups:
    """Takes the place of an embedding's forward; all lookups until `begin` belong to one backward pass."""

    def __init__(self, table: nn.Embedding) -> None:
        self._table = table
        self._source: Tensor | None = None
        table.forward = self._look_up  # type: ignore[method-assign]  # its weight stays where it is, under its name

    def begin(self) -> None:
        """The lookups so far have had their backward pass, or will have one of their own."""
        self._source = None

    def _look_up(self, input: Tensor) -> Tensor:
        weight = self._table.weight
        if not (weight.requires_grad and torch.is_grad_enabled()):
            return functional.embedding(input, weight, self._table.padding_idx)
        if self._source is None:
            self._found: Found = []
            self._source = _Table.apply(  # type: ignore[no-untyped-call]
                weight, self._found, self._table.padding_idx
            )
        looked_up: Tensor = _Lookup.apply(  # type: ignore[no-untyped-call]
            self._source, weight.detach(), input, self._found
        )
        return looked_up


class _Table(torch.autograd.Function):
    """The table -> a number that stands for it; its gradient is made of what all lookups have found."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, found: Found, padding_idx: int | None) -> Tensor:
        ctx.shape, ctx.found, ctx.padding_idx = weight.shape, found, padding_idx
        return weight.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, None, None]:
        gradient = ctx.found[0][1].new_zeros(ctx.shape)
        for token_ids, of_tokens in ctx.found:
            tokens, row_of = token_ids.unique(return_inverse=True)
            rows = torch.ops.aten.embedding_dense_backward(of_tokens, row_of, len(tokens), -1, False)
            gradient.index_add_(0, tokens, rows)
        if ctx.padding_idx is not None:
            gradient[ctx.padding_idx] = 0
        ctx.found.clear()
        return gradient, None, None


class _Lookup(torch.autograd.Function):
    """The table's rows for some token ids."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, weight: Tensor, token_ids: Tensor, found: Found) -> Tensor:
        ctx.token_ids, ctx.found = token_ids, found
        return functional.embedding(token_ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.found.append((ctx.token_ids, gradients[0]))
        return gradients[0].new_zeros(()), None, None, None
