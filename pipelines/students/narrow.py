"""A narrower student: the residual stream of the picked layers seen through the best directions of the token table.

    encoder, d wide  --narrowed(width w)-->  the same layers, w wide: heads and intermediate size cut in proportion

Every d-wide vector x of the source becomes `P^T x`, so a weight that reads the stream becomes `W P`, one that writes to
it `P^T W`, and a table of embeddings `E P`. P is d x w with orthonormal columns: principal directions of the token
embedding table, and the vector of ones. That one is there because a LayerNorm takes the mean out of its input: P takes
ones to ones, so that what the source's norms take out is what the student's take out.

- The size of a head stays (rotary positions belong to it), so there are w / size heads, spread evenly over the
  source's; the same ones in every layer, as MPNet's position biases are shared by all layers.
- The intermediate size is cut by the same share; the neurons that stay are spread evenly too.
- A norm's gains g become the diagonal of `P^T diag(g) P`, times sqrt(share of the table's variance kept * d / w), which
  gives a vector that lies in P as much as the table does the length that it had; biases are projected like vectors.
  That diagonal is exact where gains are equal. Trained models have a few coordinates that stand out: mixed with others
  they spoil the whole start, so they are axes of P, and the principal directions are those of the rest.

Source: GUIDE, Trinh et al. 2025, https://arxiv.org/abs/2510.06502 (PCA of the table, projections through it, uniform
selection of heads and inner dimensions; there for the first block of a decoder, here for every picked layer).
"""

import copy
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from pipelines.checkpoints.load import drop_pooler
from pipelines.students.training.loop import reproducible

ROWS_PER_SUM = 16_384
STANDS_OUT = 1.5
MOST_AXES = 8  # at most one of so many columns of P is an axis
NORM = re.compile(r"norm\.weight$", re.IGNORECASE)

AXES: dict[str, tuple[str, ...]] = {  # how a weight's name ends -> what its dimensions are; a bias has the first alone
    r"(word|position|token_type|tok)_embeddings\.weight": ("as it is", "stream"),
    r"relative_attention_bias\.weight": ("as it is", "heads"),
    r"(query|key|value|attn\.[qkv])\.(weight|bias)": ("heads' values", "stream"),
    r"Wqkv\.(weight|bias)": ("heads' values", "stream"),
    r"(attention\.output\.dense|attn\.o|attn\.Wo)\.(weight|bias)": ("stream", "heads' values"),
    r"(intermediate\.dense|mlp\.Wi)\.(weight|bias)": ("neurons", "stream"),
    r"(output\.dense|mlp\.Wo)\.(weight|bias)": ("stream", "neurons"),
    r"norm\.weight": ("gains",),
    r"norm\.bias": ("stream",),
}


class Basis(NamedTuple):
    """The directions of the source's stream that a narrower one keeps."""

    directions: Tensor  # (d, w), float64, orthonormal columns
    share: float  # of the token table's variance that lies in them


def narrowed(source: PreTrainedModel, width: int) -> PreTrainedModel:
    """The encoder with a stream of `width`, in float32, without a pooler; the same bytes each time.

    Args:
        width: at most the source's, and a multiple of the size of its heads.
    """
    (table,) = source.get_input_embeddings().parameters()
    with reproducible(1, torch.device("cpu")):
        basis = principal_directions(table.detach(), width, standing_out(source.state_dict(), width // MOST_AXES))
        config = _narrow_config(source.config, width)
        cut = _Cut(source.config, config, basis)
        state = {name: cut(name, weight) for name, weight in source.state_dict().items()}
    student: PreTrainedModel = AutoModel.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    drop_pooler(student).load_state_dict(state, strict=True)
    return student


def standing_out(state: dict[str, Tensor], most: int) -> list[int]:
    """The coordinates, at most so many, ascending, that some norm scales STANDS_OUT times as much as the others."""
    gains = torch.stack([weight for name, weight in state.items() if NORM.search(name)]).double().abs()
    off = (gains.clamp_min(1e-3) / gains.mean(dim=1, keepdim=True)).log().abs().amax(dim=0)
    furthest = off.argsort(descending=True, stable=True)[:most]
    return sorted(furthest[off[furthest] > math.log(STANDS_OUT)].tolist())


def principal_directions(table: Tensor, width: int, axes: Sequence[int] = ()) -> Basis:
    """The vector of ones, these axes, and the best principal directions of a table's rows beside them, `width` in all.

    About the origin, not about the mean row: a student has no place to put that row back. A direction's largest entry
    is positive, its sign being arbitrary. The columns are turned among themselves (a Householder reflection) so that
    the vector of ones is what the student's own vector of ones stands for; beyond that each stays nearly one axis or
    one principal direction, largest variance first, which is the order in which Matryoshka cuts.
    """
    size = table.shape[1]
    moments = torch.zeros((size, size), dtype=torch.float64)
    for start in range(0, len(table), ROWS_PER_SUM):
        rows = table[start : start + ROWS_PER_SUM].double()
        centred = rows - rows.mean(dim=1, keepdim=True)
        moments += centred.T @ centred
    identity = torch.eye(size, dtype=torch.float64)
    own = identity[:, list(axes)] - 1 / size
    left, _, right = torch.linalg.svd(own, full_matrices=False)
    own = left @ right  # orthonormal, and as near to the axes as such can be
    ones = torch.full((size, 1), size**-0.5, dtype=torch.float64)
    taken = own @ own.T + ones @ ones.T
    beside = (identity - taken) @ moments @ (identity - taken) - taken  # what is taken has the lowest variance, -1
    vectors = torch.linalg.eigh(beside).eigenvectors.flip(1)[:, : width - 1 - own.shape[1]]
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    kept = torch.cat([own, vectors * largest.sign()], dim=1)
    share = (kept * (moments @ kept)).sum() / moments.trace()
    return Basis(torch.cat([ones, kept], dim=1) @ _turn(width), float(share))


def _turn(width: int) -> Tensor:
    """The reflection that takes the first axis to the vector of ones, and leaves the others nearly where they are."""
    axis = torch.full((width, 1), -(width**-0.5), dtype=torch.float64)
    axis[0] += 1.0
    return torch.eye(width, dtype=torch.float64) - 2 * axis @ axis.T / (axis.T @ axis)


def _narrow_config(source: PreTrainedConfig, width: int) -> PreTrainedConfig:
    config = copy.deepcopy(source)
    config.hidden_size, config.narrowed_from_width = width, source.hidden_size
    config.num_attention_heads = source.num_attention_heads * width // source.hidden_size
    config.intermediate_size = source.intermediate_size * width // source.hidden_size
    return config


class _Cut:
    """What becomes of each weight, by its name."""

    def __init__(self, source: PreTrainedConfig, student: PreTrainedConfig, basis: Basis) -> None:
        size = source.hidden_size // source.num_attention_heads
        self._basis, self._gain = basis.directions, (basis.share * source.hidden_size / student.hidden_size) ** 0.5
        heads = evenly_spread(source.num_attention_heads, student.num_attention_heads)
        self._kept = {
            "heads": heads,
            "heads' values": (heads[:, None] * size + torch.arange(size)).flatten(),
            "neurons": evenly_spread(source.intermediate_size, student.intermediate_size),
        }
        self._of_source = {
            "heads": source.num_attention_heads,
            "heads' values": source.hidden_size,
            "neurons": source.intermediate_size,
        }

    def __call__(self, name: str, weight: Tensor) -> Tensor:
        axes = next((axes for ending, axes in AXES.items() if re.search(ending + "$", name, re.IGNORECASE)), None)
        assert axes is not None, f"{name} is in no line of AXES"
        cut = weight.double()
        for dimension, axis in enumerate(axes[: weight.ndim]):
            cut = self._along(axis, dimension, cut)
        return cut.float().contiguous()

    def _along(self, axis: str, dimension: int, weight: Tensor) -> Tensor:
        if axis == "as it is":
            return weight
        if axis == "gains":
            gains: Tensor = self._gain * (weight @ self._basis.square())
            return gains
        if axis == "stream":
            return torch.matmul(weight.movedim(dimension, -1), self._basis).movedim(-1, dimension)
        kept, number = self._kept[axis], self._of_source[axis]
        fused = weight.shape[dimension] // number  # ModernBERT lays queries, keys and values in one matrix
        index = torch.cat([kept + number * part for part in range(fused)])
        return weight.index_select(dimension, index)


def evenly_spread(number: int, picked: int) -> Tensor:
    """`picked` of `number` positions, each the middle of its equal part: 1, 3, 5 of 6."""
    return torch.tensor([(2 * part + 1) * number // (2 * picked) for part in range(picked)])
