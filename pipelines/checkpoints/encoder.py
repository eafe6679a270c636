"""The source of a student: a hub id or a folder, found, checked and loaded; safetensors only.

A source is a plain transformers encoder or a sentence-transformers model, whose first module is then the encoder.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from pipelines.checkpoints.find import resolve
from pipelines.checkpoints.weights import safetensors_files, weights_sha256
from pipelines.stage.errors import UserError

LAYER_PREFIXES = {
    "modernbert": "layers.",
    "bert": "encoder.layer.",
    "mpnet": "encoder.layer.",
    "roberta": "encoder.layer.",
    "xlm-roberta": "encoder.layer.",
}
"""Families whose layers we can pick, and where they stand in the state dict."""

log = logging.getLogger(__name__)


def source_folder(source: str) -> Path:
    """The source as a local folder: a folder, `package:NAME`, s3:// or a hub id, which is downloaded once."""
    return Path(resolve(source))


def source_name(source: str) -> str:
    """`basename@12hex` of the source's weights: what a trained model names as its parent."""
    weights = weights_sha256(encoder_folder(source_folder(source)))
    return f"{Path(source).resolve().name}@{weights[:12]}"


def encoder_folder(folder: Path) -> Path:
    """Where config.json and the weights stand: the folder itself, or its first sentence-transformers module."""
    modules = _modules(folder)
    encoder = folder / modules[0]["path"] if modules else folder
    if not (encoder / "config.json").is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise UserError(
            f"{folder} is not a model: no {(encoder / 'config.json').relative_to(folder)} (found: {found}); "
            "expected what save_pretrained or SentenceTransformer.save writes"
        )
    return encoder


def load_encoder(folder: Path) -> PreTrainedModel:
    """The whole source in float32, without its pooler, which mean pooling has no use for."""
    safetensors_files(folder)
    with _readable(folder):
        config = AutoConfig.from_pretrained(folder)
    _check_family(folder, config)
    with _readable(folder):
        encoder, info = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise UserError(
            f"the weights in {folder} lack {len(missing)} tensors that its config.json asks for, such as {missing[0]}; "
            "they would stay random. Download or save the model again"
        )
    return drop_pooler(encoder)


def drop_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """An unused module would stop DistributedDataParallel: its parameters never get a gradient."""
    if hasattr(encoder, "pooler"):
        encoder.register_module("pooler", None)
    return encoder


def note_what_is_left_behind(folder: Path) -> None:
    """Warn of a pooling other than mean, and of modules after it: without them the student starts further away."""
    for module in _modules(folder)[1:]:
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            mode = Pooling.load(str(folder), subfolder=module["path"]).pooling_mode
            if mode != "mean":
                log.warning("%s pools by %s, the student by mean: it will start further from its source", folder, mode)
        elif kind != "Normalize":
            log.warning("%s has a %s module, which the student is made without", folder, kind)


def _modules(folder: Path) -> list[dict[str, str]]:
    """The sentence-transformers modules of the folder; none for a plain encoder."""
    path = folder / "modules.json"
    if not path.exists():
        return []
    with _readable(folder):
        return list(json.loads(path.read_text()))


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """What the libraries raise on truncated, corrupt or mismatched files, as one message that names the folder."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"the model in {folder} cannot be loaded ({_first_line(error)}); download it or save it again"
        ) from error


def _check_family(folder: Path, config: PreTrainedConfig) -> None:
    if config.model_type not in LAYER_PREFIXES:
        raise UserError(
            f"{folder} is of family {config.model_type!r}, expected one of {', '.join(LAYER_PREFIXES)}; "
            "another family needs its line in LAYER_PREFIXES, pipelines/checkpoints/encoder.py"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
