"""An encoder called without padding: token ids of texts laid end to end in, their hidden states or embeddings out.

    can_unpad(model)  ->  embed(model, token_ids, lengths)  =  what the padded forward gives, but for rounding

MPNet adds a bias to its attention by relative position and is called padded; so is a model with dropout in training
(the kernels here have none) or with another pooling than the mean.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipelines.unpadded.attention import NAME
from pipelines.unpadded.layout import Layout, on_device

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer  # 2 s that a process with a cross-encoder need not wait

FAMILIES = {"bert": 0, "modernbert": 0, "roberta": 1, "xlm-roberta": 1}
"""Families that may be called so -> 1 where positions are counted from the padding's id + 1, as RoBERTa's are."""


def can_unpad(model: "SentenceTransformer") -> bool:
    """Whether `embed` knows the model's family and its pooling."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    encoder, pooling = model.transformers_model, model[1] if len(model) > 1 else None
    is_mean = isinstance(pooling, Pooling) and pooling.pooling_mode == "mean" and pooling.include_prompt
    return encoder is not None and can_unpad_encoder(encoder) and is_mean


def can_unpad_encoder(encoder: PreTrainedModel) -> bool:
    """Whether `hidden_states` knows the encoder's family, and all its tokens see one another."""
    return encoder.config.model_type in FAMILIES and not getattr(encoder.config, "is_decoder", False)


def embed(model: "SentenceTransformer", token_ids: NDArray[np.integer], lengths: NDArray[np.integer]) -> Tensor:
    """The embeddings of texts laid end to end, shape (N, D): the mean, then the model's further modules.

    Args:
        token_ids: of all texts, one after the other, special tokens included.
        lengths: tokens of each text, the longest first.
    """
    encoder = model.transformers_model
    assert encoder is not None, "can_unpad said so"
    layout = Layout(np.asarray(lengths), encoder.device)
    ids = on_device(np.asarray(token_ids, dtype=np.int64), encoder.device)
    states_TD = hidden_states(encoder, ids, layout)
    states_TD = states_TD.to(torch.promote_types(states_TD.dtype, torch.float32))
    features = {"sentence_embedding": mean_of_texts(states_TD, layout)}
    for module in list(model)[2:]:
        own = next(module.parameters(), states_TD)  # a model in 16 bits has weights here that expect them
        features = module({"sentence_embedding": features["sentence_embedding"].to(own.dtype)})
    return features["sentence_embedding"]


def hidden_states(
    encoder: PreTrainedModel, token_ids_T: Tensor, layout: Layout, token_types_T: Tensor | None = None
) -> Tensor:
    """The last hidden state of every token, shape (T, D)."""
    positions = layout.position_T
    if FAMILIES[encoder.config.model_type]:
        positions = positions + encoder.config.pad_token_id + 1
    types = {} if token_types_T is None else {"token_type_ids": token_types_T[None]}
    with _unpadded_attention(encoder):
        output = encoder(input_ids=token_ids_T[None], position_ids=positions[None], layout=layout, **types)
    states: Tensor = output.last_hidden_state[0]
    return states


def mean_of_texts(states_TD: Tensor, layout: Layout) -> Tensor:
    """Of each text the mean of its tokens, shape (N, D)."""
    return torch.segment_reduce(states_TD, "mean", lengths=layout.lengths_N, unsafe=True)  # whose check waits for a GPU


def layers_of(encoder: nn.Module) -> list[nn.Module]:
    """The layers of an encoder of FAMILIES, or of an encoder like theirs, in their order."""
    whole: Any = encoder
    return list(whole.layers if hasattr(whole, "layers") else whole.encoder.layer)


def compile_layers(encoder: PreTrainedModel) -> None:
    """From the next call on, what stands between a layer's products is fused by torch.compile, for batches of any size.

    For GPUs: half of the time of ModernBERT's shapes, in training and in scoring (benchmarks/README.md), for 10 to 30
    seconds before the first result. It needs a C compiler on the machine, as torch says where there is none.
    """
    for layer in layers_of(encoder):
        layer.compile(dynamic=True)


@contextmanager
def _unpadded_attention(encoder: PreTrainedModel) -> Iterator[None]:
    """Only while it is called so: whoever calls it with a mask gets the attention that heeds masks."""
    before = encoder.config._attn_implementation
    encoder.config._attn_implementation = NAME
    try:
        yield
    finally:
        encoder.config._attn_implementation = before
