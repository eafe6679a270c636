"""A student from a larger encoder by picking some of its layers: same tokenizer, fewer layers, its width or less.

    hub id or folder  --pick_layers, narrowed (narrow.py)-->  SentenceTransformer of the encoder and its head (heads.py)

Every weight of the student is one of the source's, or made of them where it is narrower: the picked layers are loaded
strictly, so none stays random. The heads and poolers of the source are left behind; the layer pick and the Matryoshka
dimensions stand in the student's config.json (`distilled_from`, `distilled_from_layers`, `matryoshka_dimensions`), and
so does the source's width where the student's is less (`narrowed_from_width`).
"""

import copy
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from pipelines.checkpoints.find import find
from pipelines.checkpoints.inspect import LAYER_PREFIXES, default_prompt, encoder_folder, of_transformer
from pipelines.checkpoints.load import drop_pooler, load_source, note_what_is_left_behind
from pipelines.checkpoints.name import name_of, weights_sha256
from pipelines.stage.errors import UserError
from pipelines.students.config import DistillConfig
from pipelines.students.heads import mean_and_dense, mean_pooling
from pipelines.students.narrow import narrowed
from pipelines.students.source import Source, with_prompts

DROPOUT_FIELDS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "embedding_dropout",
    "attention_dropout",
    "mlp_dropout",
)


def initialise_student(config: DistillConfig) -> SentenceTransformer:
    """The student of a config before its first step, on the CPU in float32, ready to train or to save.

    The source, in safetensors, is a plain encoder or a sentence-transformers model. Raises UserError when it cannot be
    read or does not fit what is asked of it.
    """
    folder = find(config.source_model)
    config = with_prompts(config)
    note_what_is_left_behind(folder, config.max_tokens)
    encoder = load_source(encoder_folder(folder))
    picked = Source.of(folder, encoder.config.to_dict()).pick(config)
    encoder.config.distilled_from = name_of(folder, weights_sha256(folder))
    encoder.config.matryoshka_dimensions = list(config.dimensions)
    student = _with_layers(encoder, picked, config.dropout)
    if config.width is not None:
        student = narrowed(student, config.width)
    return _as_sentence_transformer(student, folder, config)


def _with_layers(source: PreTrainedModel, picked: list[int], dropout: float) -> PreTrainedModel:
    """A model of the picked layers with the source's weights, loaded strictly."""
    config = _student_config(source.config, picked, dropout)
    student: PreTrainedModel = AutoModel.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    prefix = LAYER_PREFIXES[source.config.model_type]
    drop_pooler(student).load_state_dict(_picked_state(source.state_dict(), prefix, picked), strict=True)
    return student


def _student_config(source: PreTrainedConfig, picked: list[int], dropout: float) -> PreTrainedConfig:
    config = copy.deepcopy(source)
    config.__dict__.pop("narrowed_from_width", None)  # of a source that is a student itself
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


def _as_sentence_transformer(student: PreTrainedModel, source: Path, config: DistillConfig) -> SentenceTransformer:
    """Built from the student's files, as `SentenceTransformer(folder)` will build it from them again."""
    has_optional_pooler = hasattr(student, "pooler")
    model_kwargs: dict[str, Any] = {"add_pooling_layer": False} if has_optional_pooler else {}
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder(source))
    _check_vocabulary(source, student, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        student.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = Transformer(
            folder,
            max_seq_length=config.max_tokens,
            do_lower_case=bool(of_transformer(source).get("do_lower_case")),
            model_kwargs={**model_kwargs, "dtype": "float32"},
        )
    if has_optional_pooler:
        _leave_out_pooler(transformer)
    head = mean_and_dense if config.head == "dense" else mean_pooling
    modules = [transformer, *head(student.config.hidden_size)]
    prompts = {"query": config.query_prompt or "", "document": config.passage_prompt or ""}
    default = next((name for name, prompt in prompts.items() if prompt and prompt == default_prompt(source)), None)
    return SentenceTransformer(
        modules=modules,
        prompts=prompts,
        default_prompt_name=default,
        similarity_fn_name="cosine",
        device="cpu",
    )


def _check_vocabulary(source: Path, student: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """A token without an embedding would end the training at the first text that has it."""
    rows = len(next(student.get_input_embeddings().parameters()))
    if len(tokenizer) > rows:
        raise UserError(
            f"{source}: its tokenizer has {len(tokenizer):,} tokens, its embeddings {rows:,} rows; expected a row for "
            "each: resize_token_embeddings and save the model again"
        )


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
