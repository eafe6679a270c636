"""Attention of texts that lie end to end, for any encoder of transformers that chooses its attention by name.

    encoder(input_ids of one row, layout=...)  --attend-->  each text sees itself, within the layer's window if any

On a GPU in 16 bits it is `varlen_attn`. Elsewhere texts of similar length are padded for attention alone, a window is
walked in blocks, and a long text is taken by itself without ever holding its scores. On CPUs the products are written
out: torch's own kernel is level with them in float32, and takes 1.7 to 15 times as long in bf16 (torch 2.13).

Shape letters: layout.py.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from pipelines.unpadded.layout import LONGEST_IN_A_GROUP, Group, Layout

NAME = "unpadded"
LONGEST_KEPT = 256
"""Keys of a query whose weights are kept for the backward pass; of more they would be most of what is kept."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers calls attention: (1, H, T, d) in, (1, T, H, d) out.

    Args:
        query: of every token, or of the first one of each text alone, (1, H, N, d); then so many come out, windows or
            not.
        attention_mask: None: the layout says which tokens see each other.
        sliding_window: a token sees `sliding_window - 1` tokens on both sides, as ModernBERT's layers state it.
    """
    tokens = _States(*(states[0].transpose(0, 1).to(value.dtype) for states in (query, key, value)))
    window = None if sliding_window is None or sliding_window >= layout.longest else sliding_window - 1
    if value.device.type == "cuda" and value.dtype in (torch.bfloat16, torch.float16):
        return _by_kernel(tokens, layout, scaling, window)[None], None
    if window is None:
        return _in_groups(tokens, layout, scaling)[None], None
    return _in_blocks(tokens, layout, scaling, window)[None], None


AttentionInterface.register(NAME, attend)


class _States(NamedTuple):
    """What attention is made of; of tokens (T, H, d), or of texts or blocks (N, H, L, d)."""

    query: Tensor
    key: Tensor
    value: Tensor


def _by_kernel(tokens: _States, layout: Layout, scaling: float, window: int | None) -> Tensor:
    """One split of the keys: what a text gets does not depend on the texts beside it."""
    of_all = len(tokens.query) == len(tokens.key)
    attended = varlen_attn(
        tokens.query.contiguous(),
        tokens.key.contiguous(),
        tokens.value.contiguous(),
        layout.starts_N1 if of_all else layout.rows_N1,
        layout.starts_N1,
        layout.longest if of_all else 1,
        layout.longest,
        scale=scaling,
        window_size=(-1, -1) if window is None else (window, window),
        num_splits=1,
    )
    assert isinstance(attended, Tensor), "no auxiliary output was asked for"
    return attended


def _in_groups(tokens: _States, layout: Layout, scaling: float) -> Tensor:
    """Every token of a text sees all of it."""
    sizes = [group.tokens for group in layout.groups]
    asked = sizes if len(tokens.query) == len(tokens.key) else [group.texts for group in layout.groups]
    split = (torch.split(states, own) for states, own in zip(tokens, (asked, sizes, sizes), strict=True))
    of_groups = zip(layout.groups, *split, strict=True)
    return torch.cat([_in_group(_States(*states), group, scaling) for group, *states in of_groups])


def _in_group(tokens: _States, group: Group, scaling: float) -> Tensor:
    of_all = len(tokens.query) == len(tokens.key)
    query_NHLd = _padded(tokens.query, group) if of_all else tokens.query[:, None].transpose(1, 2)
    padded = _States(query_NHLd, _padded(tokens.key, group), _padded(tokens.value, group))
    if group.longest > LONGEST_IN_A_GROUP:
        attended_NHLd = functional.scaled_dot_product_attention(*padded, scale=scaling)
    else:
        attended_NHLd = _attended(padded, group.bias_N11L, scaling)
    places = attended_NHLd.transpose(1, 2).flatten(0, 1)
    if of_all and group.bias_N11L is not None:
        places = _Unpadded.apply(places, group)  # type: ignore[no-untyped-call]
    return places


def _padded(states_tHd: Tensor, group: Group) -> Tensor:
    """Shape (N, H, L, d)."""
    padded = states_tHd
    if group.bias_N11L is not None:
        padded = _Padded.apply(states_tHd, group)  # type: ignore[no-untyped-call]
    return padded.view(group.texts, group.longest, *states_tHd.shape[1:]).transpose(1, 2)


def _in_blocks(tokens: _States, layout: Layout, scaling: float, window: int) -> Tensor:
    """Every token sees those of its text at most `window` away: of its block of as many, and of the blocks beside it.

    Memory grows with T W, not with the square of a text's length.
    """
    num_tokens, num_heads, width = tokens.query.shape
    fill = -num_tokens % window
    query_bHWd = functional.pad(tokens.query, (0, 0, 0, 0, 0, fill)).view(-1, window, num_heads, width).transpose(1, 2)
    near = []
    for states_THd in (tokens.key, tokens.value):
        blocks = functional.pad(states_THd, (0, 0, 0, 0, window, fill + window)).view(-1, window, num_heads, width)
        near.append(torch.cat([blocks[:-2], blocks[1:-1], blocks[2:]], dim=1).transpose(1, 2))
    attended_bHWd = _attended(_States(query_bHWd, *near), layout.window_bias(window), scaling)
    return attended_bHWd.transpose(1, 2).flatten(0, 1)[:num_tokens]


def _attended(states: _States, bias: Tensor | None, scaling: float) -> Tensor:
    """Softmax attention, written out."""
    if states.key.shape[-2] > LONGEST_KEPT:
        attended: Tensor = _Attended.apply(*states, bias, scaling)  # type: ignore[no-untyped-call]
        return attended
    return torch.matmul(_weights(states.query, states.key, bias, scaling).to(states.value.dtype), states.value)


def _weights(query: Tensor, key: Tensor, bias: Tensor | None, scaling: float) -> Tensor:
    """(N, H, L, L), in float32 or better."""
    scores = torch.matmul(query * scaling, key.transpose(-1, -2))
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return (scores if bias is None else scores + bias).softmax(dim=-1)


class _Attended(torch.autograd.Function):
    """The weights, a text's length squared, are made again for the gradients: one more product, a fraction of memory.

    Source: Dao et al. 2022, https://arxiv.org/abs/2205.14135 (FlashAttention, its backward pass, without tiles).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.bias, ctx.scaling = bias, scaling
        return torch.matmul(_weights(query, key, bias, scaling).to(value.dtype), value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (query, key, value), (grad,) = ctx.saved_tensors, gradients
        weights = _weights(query, key, ctx.bias, ctx.scaling)
        grad_value = torch.matmul(weights.to(grad.dtype).transpose(-1, -2), grad)
        of_weights = torch.matmul(grad, value.transpose(-1, -2)).to(weights.dtype)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_scores = (of_scores * ctx.scaling).to(query.dtype)
        return torch.matmul(of_scores, key), torch.matmul(of_scores.transpose(-1, -2), query), grad_value, None, None


class _Padded(torch.autograd.Function):
    """Rows of tokens -> rows of padded places; gradients come back from the places of tokens alone."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return rows.index_select(0, group.token_NL)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].index_select(0, ctx.group.place_T), None


class _Unpadded(torch.autograd.Function):
    """Rows of padded places -> rows of tokens; the gradient of a place without a token is 0."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return rows.index_select(0, group.place_T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        padded = gradients[0].new_zeros(len(ctx.group.token_NL), *gradients[0].shape[1:])
        return padded.index_copy_(0, ctx.group.place_T, gradients[0]), None
