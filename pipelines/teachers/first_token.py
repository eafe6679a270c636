"""The last layer of a BERT-like cross-encoder for the first token of each pair alone, since its head reads no other.

    read_first_token_only(model)  ->  the same logits; of 6 layers of MiniLM's shape a seventh less to compute

The other tokens' keys and values are still needed there, their queries, and all that follows attention, are not.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import BertForSequenceClassification, PreTrainedModel

from pipelines.unpadded.attention import attend
from pipelines.unpadded.classifier import ROBERTAS
from pipelines.unpadded.layout import Layout

CLASSES = (BertForSequenceClassification, *ROBERTAS)


def read_first_token_only(model: PreTrainedModel) -> None:
    """Change a model of these classes, exactly: a model's own code may read any token. Others stay as they are."""
    if type(model) in CLASSES and not model.config.is_decoder:
        encoder: Any = model.base_model.encoder
        encoder.layer[-1] = LastLayer(encoder.layer[-1])


class LastLayer(nn.Module):
    """A BERT-like layer: hidden states of all tokens in, of each pair's first token out.

    Of padded pairs (N, L, D) in, (N, 1, D) out; of pairs that lie end to end (1, T, D) in, (1, N, D) out.
    """

    layer: Any

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, states: Tensor, attention_mask: Tensor | None = None, *_: Any, layout: Layout | None = None, **__: Any
    ) -> Tensor:
        own = self.layer.attention.self
        first = states[:, :1] if layout is None else states[:, layout.starts_N1[:-1]]
        query, key, value = (
            projected.unflatten(2, (own.num_attention_heads, -1)).transpose(1, 2)
            for projected in (own.query(first), own.key(states), own.value(states))
        )
        if layout is None:
            mask = None if attention_mask is None else attention_mask[..., :1, :]
            attended = scaled_dot_product_attention(query, key, value, mask, scale=own.scaling).transpose(1, 2)
        else:
            attended = attend(own, query, key, value, None, layout=layout, scaling=own.scaling)[0]
        added = self.layer.attention.output(attended.flatten(2), first)
        read: Tensor = self.layer.feed_forward_chunk(added)
        return read
