"""A student from a larger encoder by picking some of its layers: same width, same tokenizer, fewer layers.

    hub id or folder  --pick_layers-->  SentenceTransformer of the encoder and its head (heads.py)

Every weight of the student is one of the source's: the picked layers are loaded strictly, so none stays random. The
heads and poolers of the source are left behind; the layer pick and the Matryoshka dimensions stand in the student's
config.json (`distilled_from`, `distilled_from_layers`, `matryoshka_dimensions`).
"""

import copy
import re
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from pipelines.checkpoints.find import find
from pipelines.checkpoints.inspect import encoder_folder
from pipelines.checkpoints.load import LAYER_PREFIXES, drop_pooler, load_source, longest_input, note_what_is_left_behind
from pipelines.checkpoints.name import name_of, weights_sha256
from pipelines.stage.errors import UserError
from pipelines.students.config import DistillConfig, LayerPick
from pipelines.students.heads import mean_pooling

DROPOUT_FIELDS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "embedding_dropout",
    "attention_dropout",
    "mlp_dropout",
)


def pick_layers(num_layers: int, num_picked: int, how: LayerPick | Sequence[int]) -> list[int]:
    """Which layers of the source become the student's, ascending, counted from 0.

    uniform: every ceil(num_layers / num_picked)-th from 0: 0, 4, 8, 12, 16, 20 of 22; 0, 2, 4 of 6.
    uniform_with_last: evenly spaced from the first to the last, each rounded to the nearest layer and a half to the
    even one, as `round` does: 0, 4, 8, 13, 17, 21 of 22; 0, 2 (from 2.5), 5 of 6.
    first, last: the first or the last num_picked. A list: those layers, checked.
    """
    if not 1 <= num_picked <= num_layers:
        raise UserError(f"num_layers is {num_picked}, but the source has {num_layers} layers: pick 1 to {num_layers}")
    if how == "uniform":
        return _uniform(num_layers, num_picked)
    if how == "uniform_with_last":
        if num_picked < 2:
            raise UserError("uniform_with_last picks the first and the last layer, so num_layers must be at least 2")
        return [round(index * (num_layers - 1) / (num_picked - 1)) for index in range(num_picked)]
    if how == "first":
        return list(range(num_picked))
    if how == "last":
        return list(range(num_layers - num_picked, num_layers))
    if isinstance(how, str):
        raise UserError(f"layers is {how!r}, expected uniform, uniform_with_last, first, last or a list of numbers")
    return _checked(list(how), num_layers, num_picked)


def initialise_student(config: DistillConfig) -> SentenceTransformer:
    """The student of a config before its first step, on the CPU in float32, ready to train or to save.

    The source, in safetensors, is a plain encoder or a sentence-transformers model. Raises UserError when it cannot be
    read or does not fit what is asked of it.
    """
    folder = find(config.source_model)
    note_what_is_left_behind(folder)
    encoder = load_source(encoder_folder(folder))
    picked = pick_layers(encoder.config.num_hidden_layers, config.num_layers, config.layers)
    _check_fit(encoder, picked, config.dimensions, config.max_tokens)
    encoder.config.distilled_from = name_of(folder, weights_sha256(folder))
    encoder.config.matryoshka_dimensions = list(config.dimensions)
    student = _with_layers(encoder, picked, config.dropout)
    return _as_sentence_transformer(student, encoder_folder(folder), config)


def _uniform(num_layers: int, num_picked: int) -> list[int]:
    step = -(-num_layers // num_picked)
    picked = list(range(0, num_layers, step))
    if len(picked) < num_picked:
        raise UserError(
            f"uniform cannot pick {num_picked} of {num_layers} layers: steps of {step} reach only {len(picked)}. "
            f"Ask for {len(picked)}, or use uniform_with_last, or list the layers"
        )
    return picked


def _checked(layers: list[int], num_layers: int, num_picked: int) -> list[int]:
    is_ascending = all(left < right for left, right in pairwise(layers))
    if len(layers) != num_picked or not is_ascending or layers[0] < 0 or layers[-1] >= num_layers:
        raise UserError(
            f"layers is {layers}, expected {num_picked} different layers in ascending order, each from 0 to "
            f"{num_layers - 1}"
        )
    return layers


def _check_fit(encoder: PreTrainedModel, picked: list[int], dimensions: Sequence[int], max_tokens: int) -> None:
    config = encoder.config
    if config.model_type == "modernbert" and picked[0] != 0:
        raise UserError(
            f"layers picked are {picked}, but a ModernBERT student must begin with layer 0: that layer alone has no "
            "norm before its attention, so no other layer's weights fit in its place. Use uniform, uniform_with_last, "
            "first, or a list that starts with 0"
        )
    if not dimensions or min(dimensions) < 1 or max(dimensions) > config.hidden_size:
        raise UserError(
            f"dimensions are {list(dimensions)}, but the source is {config.hidden_size} wide: give one or more, each "
            f"from 1 to {config.hidden_size}"
        )
    longest = longest_input(encoder)
    if longest is not None and not 1 <= max_tokens <= longest:
        raise UserError(f"max_tokens is {max_tokens}, but the source reads at most {longest} tokens: lower max_tokens")


def _with_layers(source: PreTrainedModel, picked: list[int], dropout: float) -> PreTrainedModel:
    """A model of the picked layers with the source's weights, loaded strictly."""
    config = _student_config(source.config, picked, dropout)
    student: PreTrainedModel = AutoModel.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    prefix = LAYER_PREFIXES[source.config.model_type]
    drop_pooler(student).load_state_dict(_picked_state(source.state_dict(), prefix, picked), strict=True)
    return student


def _student_config(source: PreTrainedConfig, picked: list[int], dropout: float) -> PreTrainedConfig:
    config = copy.deepcopy(source)
    config.num_hidden_layers = len(picked)
    if getattr(source, "layer_types", None):  # ModernBERT: which layers attend globally, which locally
        config.layer_types = [source.layer_types[layer] for layer in picked]
    for field in DROPOUT_FIELDS:
        if hasattr(config, field):
            setattr(config, field, dropout)
    config.distilled_from_layers = picked
    return config


def _picked_state(state: dict[str, Tensor], prefix: str, picked: list[int]) -> dict[str, Tensor]:
    """The state with picked layers renumbered, others left out, and all that is in no layer kept."""
    in_layer = re.compile(re.escape(prefix) + r"(\d+)\.(.+)")
    new_state = {}
    for key, weight in state.items():
        match = in_layer.fullmatch(key)
        if match is None:
            new_state[key] = weight
        elif int(match[1]) in picked:
            new_state[f"{prefix}{picked.index(int(match[1]))}.{match[2]}"] = weight
    return new_state


def _as_sentence_transformer(
    student: PreTrainedModel, tokenizer_folder: Path, config: DistillConfig
) -> SentenceTransformer:
    """Built from the student's files, as `SentenceTransformer(folder)` will build it from them again."""
    has_optional_pooler = hasattr(student, "pooler")
    model_kwargs: dict[str, Any] = {"add_pooling_layer": False} if has_optional_pooler else {}
    with tempfile.TemporaryDirectory() as folder:
        student.save_pretrained(folder)
        AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
        transformer = Transformer(
            folder, max_seq_length=config.max_tokens, model_kwargs={**model_kwargs, "dtype": "float32"}
        )
    if has_optional_pooler:
        _leave_out_pooler(transformer)
    modules = [transformer, *mean_pooling(student.config.hidden_size)]
    prompts = {"query": config.query_prompt, "document": config.passage_prompt}
    return SentenceTransformer(modules=modules, prompts=prompts, similarity_fn_name="cosine", device="cpu")


def load_student(folder: str) -> SentenceTransformer:
    """A saved student on the CPU, which can be saved again as it was."""
    student = SentenceTransformer(folder, device="cpu", local_files_only=True)
    transformer = student[0]
    assert isinstance(transformer, Transformer), "a student's first module is its encoder"
    if getattr(transformer.auto_model, "pooler", True) is None:
        _leave_out_pooler(transformer)
    return student


def _leave_out_pooler(transformer: Transformer) -> None:
    """Write so into sentence_bert_config.json: else every reload makes a random, unused pooler, and warns."""
    model_args: Any = {"add_pooling_layer": False}
    transformer.model_args = model_args
    transformer.config_keys = [*Transformer.config_keys, "model_args"]
