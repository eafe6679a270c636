"""What both kinds of teacher need to load a model: device, dtype, limits, and refusals instead of tracebacks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipelines.stage.errors import UserError
from pipelines.teachers.batches import describe

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

CPU_BATCH_TOKENS = 2_048
"""Tried on 2 cores (6 layers, 384 wide): 8,192 tokens fall out of the caches and lose most of what sorting gains."""

GPU_BATCH_TOKENS = 65_536
"""128 pairs of 512 tokens; not measured yet."""


def pick_device(device: str | None) -> torch.device:
    """The device asked for, else CUDA where there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def pick_batch_tokens(batch_tokens: int | None, device: torch.device) -> int:
    """Tokens of a batch with padding: as asked, else the device's default."""
    return batch_tokens or (CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS)


def pick_dtype(dtype: str) -> torch.dtype:
    """The torch dtype of that name."""
    if dtype not in DTYPES:
        raise UserError(f"teacher dtype {dtype!r} is not known; expected one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


@contextmanager
def refusing(folder: str) -> Iterator[None]:
    """Load quietly; what transformers raises about a folder becomes a UserError that names it."""
    verbosity = transformers_logging.get_verbosity()
    had_progress_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise UserError(
            f"{folder} cannot be loaded: {describe(error)}; expected a config.json, weights and tokenizer that belong "
            f"together (a model with its own code needs trust_remote_code)"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_progress_bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def check_max_tokens(model: PreTrainedModel, max_tokens: int, folder: str) -> None:
    """Refuse to read more tokens than the model has positions for."""
    positions = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa's family counts positions from padding_idx + 1
            positions = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    if positions is not None and max_tokens > positions:
        raise UserError(
            f"max_tokens is {max_tokens}, but {folder} reads at most {positions} tokens; set it to that or less"
        )
