"""Encoders loaded whole from their folders: no weight left random, refusals in place of tracebacks."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from pipelines.checkpoints.inspect import (
    KEPT_PROMPTS,
    architectures,
    check_family,
    modules,
    named_prompts,
    of_model,
    of_transformer,
    weight_files,
)
from pipelines.stage.errors import UserError, describe, first_of

log = logging.getLogger(__name__)


def load_source(folder: Path) -> PreTrainedModel:
    """The encoder that a student takes its layers from. Raises UserError when its family is not in LAYER_PREFIXES."""
    weight_files(folder)
    with refusing(folder):
        config = AutoConfig.from_pretrained(folder)
    check_family(folder, config.model_type)
    return load_encoder(folder)


def load_encoder(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The whole encoder in float32, without its pooler, which neither mean pooling nor a teacher has a use for."""
    with refusing(folder):
        encoder, loaded = AutoModel.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    missing = [key for key in loaded["missing_keys"] if not key.startswith("pooler.")]
    refuse_random_weights(folder, encoder, missing, "fetch the model again, or save it again")
    return drop_pooler(encoder)


def refuse_random_weights(folder: Path, model: PreTrainedModel, missing: Collection[str], advice: str) -> None:
    """Raise UserError when the files lack weights of the model: transformers makes them at random."""
    if missing:
        names = first_of(sorted(missing), 4)
        raise UserError(
            f"{folder}: its weights lack {names} of {type(model).__name__}, which would be random; {advice}"
        )


def drop_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """An unused module would stop DistributedDataParallel: its parameters never get a gradient."""
    if hasattr(encoder, "pooler"):
        encoder.register_module("pooler", None)
    return encoder


def longest_input(model: PreTrainedModel) -> int | None:
    """Tokens that the model has positions for; None where it does not say."""
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa's family counts positions from padding_idx + 1
            positions = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return positions


def left_behind(folder: Path, max_tokens: int) -> Iterator[str]:
    """What of a sentence-transformers model its student is made without, a line each."""
    from sentence_transformers.sentence_transformer.modules import Pooling  # a cross-encoder does without

    listed, made_as = modules(folder), architectures(folder)
    if "SequenceClassification" in made_as:
        yield f"is a {made_as}, of which the student takes the encoder alone"
    for module in listed[1:]:
        if module.kind == "Pooling":
            with refusing(folder):
                pooling = Pooling.load(str(folder), subfolder=module.path)
            mode = pooling.pooling_mode
            if mode != "mean":
                told = mode if isinstance(mode, str) else " and ".join(mode)
                yield f"pools by {told}, the student by mean: it will start further from its source"
            if not pooling.include_prompt:
                yield "leaves the prompt out of its mean, the student does not"
        elif module.kind != "Normalize":
            yield f"has a {module.kind} module, which the student is made without"
    similarity = of_model(folder).get("similarity_fn_name") or "cosine"
    is_unit = any(module.kind == "Normalize" for module in listed)
    if similarity != "cosine" and not (similarity in ("dot", "dot_score") and is_unit):
        yield f"compares by {similarity}, the student by cosine"
    longest = of_transformer(folder).get("max_seq_length")
    if longest is not None and longest < max_tokens:
        yield f"reads {longest} tokens, the student {max_tokens} (max_tokens)"
    others = [name for name, prompt in named_prompts(folder).items() if prompt and name not in KEPT_PROMPTS]
    if others:
        yield f"has prompts {', '.join(sorted(others))}, which the student does not know: it has query and document"


def note_what_is_left_behind(folder: Path, max_tokens: int) -> None:
    """Warn of what else the source does to a text or a vector: without it the student starts further away."""
    for what in left_behind(folder, max_tokens):
        log.warning("%s %s", folder, what)


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """What the libraries raise on truncated, corrupt or mismatched files becomes a UserError that names the folder."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise UserError(
            f"{folder} cannot be loaded: {describe(error)}; expected a config.json, weights and tokenizer that belong "
            f"together (a model with its own code needs trust_remote_code)"
        ) from error
