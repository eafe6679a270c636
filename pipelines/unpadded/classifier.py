"""A cross-encoder called without padding: token ids of pairs laid end to end in, the logits of its own head out.

    can_unpad_pairs(model)  ->  logits(model, token_ids, token_types, lengths)  =  the padded ones, but for rounding

The encoder is called by `forward.hidden_states`; a head reads the first token of each pair, or the mean of all.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    BertForSequenceClassification,
    ModernBertForSequenceClassification,
    PreTrainedModel,
    RobertaForSequenceClassification,
    XLMRobertaForSequenceClassification,
)

from pipelines.unpadded.forward import can_unpad_encoder, hidden_states, mean_of_texts
from pipelines.unpadded.layout import Layout, on_device

ROBERTAS = (RobertaForSequenceClassification, XLMRobertaForSequenceClassification)
CLASSES = (BertForSequenceClassification, ModernBertForSequenceClassification, *ROBERTAS)


def can_unpad_pairs(model: PreTrainedModel) -> bool:
    """Whether `logits` knows the model's class, exactly: a model's own code may have any head."""
    return type(model) in CLASSES and can_unpad_encoder(encoder_of(model))


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """What stands below the head."""
    encoder = model.base_model
    assert isinstance(encoder, PreTrainedModel), "so are transformers' encoders"
    return encoder


def logits(
    model: PreTrainedModel,
    token_ids: NDArray[np.integer],
    token_types: NDArray[np.integer] | None,
    lengths: NDArray[np.integer],
) -> Tensor:
    """The logits of pairs laid end to end, shape (N, labels).

    Args:
        token_ids: of all pairs, one after the other, special tokens included.
        token_types: which text of its pair each token belongs to, where the tokenizer says so.
        lengths: tokens of each pair, the longest first.
    """
    layout = Layout(np.asarray(lengths), model.device)
    ids = on_device(np.asarray(token_ids, dtype=np.int64), model.device)
    types = None if token_types is None else on_device(np.asarray(token_types, dtype=np.int64), model.device)
    states_TD = hidden_states(encoder_of(model), ids, layout, types)
    reads_first = len(states_TD) == len(lengths)  # teachers/first_token.py
    first_ND = states_TD if reads_first else states_TD[layout.starts_N1[:-1]]
    if isinstance(model, BertForSequenceClassification):
        assert model.bert.pooler is not None, "its head has a pooler"
        pooled: Tensor = model.classifier(model.bert.pooler(first_ND[:, None]))
        return pooled
    if isinstance(model, ROBERTAS):
        of_first: Tensor = model.classifier(first_ND[:, None])
        return of_first
    assert isinstance(model, ModernBertForSequenceClassification), "can_unpad_pairs said so"
    if model.config.classifier_pooling == "mean":
        first_ND = mean_of_texts(states_TD.float(), layout).to(states_TD.dtype)
    scored: Tensor = model.classifier(model.head(first_ND))
    return scored
