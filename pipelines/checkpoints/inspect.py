"""What a model's folder holds and what it must hold, read before anything is loaded: modules, weights, prompts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from pipelines.stage.errors import UserError

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
LAYER_PREFIXES = {
    "modernbert": "layers.",
    "bert": "encoder.layer.",
    "mpnet": "encoder.layer.",
    "roberta": "encoder.layer.",
    "xlm-roberta": "encoder.layer.",
}
"""Families whose layers we can pick, and where they stand in the state dict."""

MEANING_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.py", "*.safetensors")


PASSAGE_PROMPTS = ("document", "passage", "corpus")
KEPT_PROMPTS = ("query", *PASSAGE_PROMPTS)
POOLING_MODES = {  # name -> what older configs say for it
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


class Module(NamedTuple):
    """One sentence-transformers module of a folder."""

    path: str  # inside the folder; "" is the folder itself
    kind: str  # its class: Transformer, Pooling, ...


class Prompts(NamedTuple):
    """What is put in front of each text; empty for nothing."""

    query: str
    passage: str


def modules(folder: Path) -> list[Module]:
    """The sentence-transformers modules that modules.json lists, in order; none for a plain transformers model."""
    path = folder / "modules.json"
    if not path.exists():
        return []
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return [Module(module["path"], module["type"].rsplit(".", 1)[-1]) for module in listed]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder} cannot be loaded: its modules.json is no list of sentence-transformers modules ({error}); "
            "fetch the model again"
        ) from error


def encoder_folder(folder: Path) -> Path:
    """Where config.json and the weights stand: the folder itself, or its first sentence-transformers module."""
    listed = modules(folder)
    encoder = folder / listed[0].path if listed else folder
    if not (encoder / "config.json").is_file():
        raise UserError(
            f"{folder} is not a model: no {(encoder / 'config.json').relative_to(folder)} (found: {_listing(folder)}); "
            "expected what save_pretrained or SentenceTransformer.save writes"
        )
    return encoder


def encoder_config(folder: Path) -> dict[str, Any]:
    """What config.json says of the encoder of a model's folder; empty where there is none."""
    return _of_encoder(folder, "config.json")


def check_family(folder: Path, family: str | None) -> None:
    """Refuse an encoder whose layers we cannot pick."""
    if family not in LAYER_PREFIXES:
        raise UserError(
            f"{folder} is of family {family!r}, expected one of {', '.join(LAYER_PREFIXES)}; "
            "another family needs its line in LAYER_PREFIXES, pipelines/checkpoints/inspect.py"
        )


def longest_input(config: dict[str, Any]) -> int | None:
    """Tokens that an encoder has positions for, by its config; None where that does not say."""
    positions: int | None = config.get("max_position_embeddings")
    if positions is None or config.get("model_type") not in ("mpnet", "roberta", "xlm-roberta"):
        return positions
    padding = 1 if config["model_type"] == "mpnet" else config.get("pad_token_id", 1)
    return positions - (padding + 1)  # RoBERTa's family counts positions from there


def vector_width(folder: Path) -> int | None:
    """Length of a sentence-transformers model's vectors, by its files; None where they hold a module we do not know."""
    kinds = [module.kind for module in modules(folder)[1:]]
    if not kinds or set(kinds) - {"Pooling", "Normalize", "Dense"}:
        return None
    width: int | None = encoder_config(folder).get("hidden_size")
    for module in modules(folder):
        if module.kind == "Dense":
            width = _settings(folder / module.path / "config.json").get("out_features")
    return width


def model_files(folder: Path) -> list[Path]:
    """What a model computes depends on: the files of the folder and of its modules, sorted by path."""
    return sorted({path for part in _parts(folder) for pattern in MEANING_FILES for path in part.glob(pattern)})


def weight_files(folder: Path, loader: str = "transformers import AutoModel") -> list[Path]:
    """The safetensors files of a model and of its sentence-transformers modules, in a fixed order.

    Args:
        loader: completes "from ... as Model" in the advice.
    Raises:
        UserError: there are none; weights of another format can run code when they are loaded.
    """
    files = [path for path in model_files(folder) if path.suffix == ".safetensors"]
    unsafe = [path.name for pattern in UNSAFE_WEIGHTS for path in sorted(folder.glob(pattern))]
    if not files and unsafe:
        raise UserError(
            f"{folder} has its weights as {', '.join(unsafe)}, which may run code when loaded; only safetensors is "
            f'read. If you trust the file, convert it: python -c "from {loader} as Model; '
            f'Model.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"'
        )
    if not files:
        raise UserError(f"{folder} has no weights: found {_listing(folder)}; expected *.safetensors")
    return files


def check_checkpoint(folder: Path, loader: str) -> None:
    """Refuse a folder that no model can be loaded from; `loader` is that of `weight_files`.

    Raises:
        UserError: no config, no safetensors, weights that cannot be read, or no tokenizer; with what was found.
    """
    if not ((folder / "config.json").exists() or (folder / "modules.json").exists()):
        raise UserError(
            f"{folder} holds no model: found {_listing(folder)}; expected config.json, *.safetensors and tokenizer"
        )
    for path in weight_files(folder, loader):
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{path} cannot be read ({path.stat().st_size:,} bytes: {error}); the file is truncated, damaged or "
                f"only a Git LFS pointer; fetch it again"
            ) from error
    if not any(path for part in _parts(folder) for name in TOKENIZER_FILES for path in part.glob(name)):
        raise UserError(
            f"{folder} has no tokenizer: found {_listing(folder)}; expected tokenizer.json beside the weights"
        )


def check_outputs(folder: Path, *, runs_own_code: bool) -> None:
    """Refuse what is no cross-encoder, or one whose config names several outputs, before any worker loads it."""
    labels, made_as = _settings(folder / "config.json").get("id2label"), _architectures(folder)
    if made_as and not runs_own_code and "SequenceClassification" not in made_as:
        raise UserError(
            f"{folder} is a {made_as}, expected a ...ForSequenceClassification, which gives a "
            'pair a score; set score.teacher_kind to "bi_encoder" if it gives vectors, or take a re-ranker'
        )
    if labels is not None and len(labels) != 1:
        raise several_outputs(folder, [str(label) for label in labels.values()])


def check_model_type(root: Path) -> None:
    """Without modules.json sentence-transformers would guess a pooling, and it would convert a cross-encoder."""
    if not (root / "modules.json").exists():
        raise UserError(
            f"{root} is no sentence-transformers model: it has no modules.json, so its pooling is unknown; save it "
            f'once with SentenceTransformer.save, or set score.teacher_kind to "cross_encoder" if it is a re-ranker'
        )
    model_type = _of_model(root).get("model_type")
    if model_type not in (None, "SentenceTransformer"):
        raise UserError(
            f"{root} is a {model_type} model, expected a SentenceTransformer; set score.teacher_kind to what fits"
        )


def several_outputs(folder: Path, labels: list[str]) -> UserError:
    """A cross-encoder must have one output; what this one has instead."""
    return UserError(
        f"{folder} has {len(labels)} outputs ({', '.join(labels)}), expected one relevance logit; give a re-ranker "
        f"with num_labels 1, or save this model with the one row of its head that means relevance"
    )


def own_prompts(folder: Path) -> Prompts:
    """The prompts that a sentence-transformers model was saved with.

    Its config may call the passage's prompt document, passage or corpus, and an empty "document" is only filler.
    """
    own, default = named_prompts(folder), default_prompt(folder)
    named = [own[name] for name in PASSAGE_PROMPTS if own.get(name)]
    return Prompts(own.get("query", default), named[0] if named else own.get("document", default))


def named_prompts(folder: Path) -> dict[str, str]:
    """All prompts that a sentence-transformers model was saved with, by name."""
    return {name: prompt or "" for name, prompt in (_of_model(folder).get("prompts") or {}).items()}


def default_prompt(folder: Path) -> str:
    """The prompt that a sentence-transformers model puts before a text of no kind; empty for nothing."""
    return named_prompts(folder).get(_of_model(folder).get("default_prompt_name") or "", "")


def left_behind(folder: Path, max_tokens: int) -> Iterator[str]:
    """What of a sentence-transformers model its student is made without, a line each."""
    listed, made_as = modules(folder), _architectures(folder)
    if "SequenceClassification" in made_as:
        yield f"is a {made_as}, of which the student takes the encoder alone"
    for module in listed[1:]:
        if module.kind == "Pooling":
            pooling = _settings(folder / module.path / "config.json")
            mode = pooling.get("pooling_mode") or [m for m, name in POOLING_MODES.items() if pooling.get(name)]
            if mode not in ("mean", ["mean"], []):
                told = mode if isinstance(mode, str) else " and ".join(mode)
                yield f"pools by {told}, the student by mean: it will start further from its source"
            if not pooling.get("include_prompt", True):
                yield "leaves the prompt out of its mean, the student does not"
        elif module.kind != "Normalize":
            yield f"has a {module.kind} module, which the student is made without"
    similarity = _of_model(folder).get("similarity_fn_name") or "cosine"
    is_unit = any(module.kind == "Normalize" for module in listed)
    if similarity != "cosine" and not (similarity in ("dot", "dot_score") and is_unit):
        yield f"compares by {similarity}, the student by cosine"
    longest = _of_encoder(folder, "sentence_bert_config.json").get("max_seq_length")
    if longest is not None and longest < max_tokens:
        yield f"reads {longest} tokens, the student {max_tokens} (max_tokens)"
    others = [name for name, prompt in named_prompts(folder).items() if prompt and name not in KEPT_PROMPTS]
    if others:
        yield f"has prompts {', '.join(sorted(others))}, which the student does not know: it has query and document"


def reads_lower_case(folder: Path) -> bool:
    """Whether a sentence-transformers model puts each text in lower case itself."""
    return bool(_of_encoder(folder, "sentence_bert_config.json").get("do_lower_case"))


def _architectures(folder: Path) -> str:
    """The classes that the encoder was saved as."""
    return ", ".join(map(str, encoder_config(folder).get("architectures") or []))


def _of_encoder(folder: Path, name: str) -> dict[str, Any]:
    """A settings file beside the encoder's weights."""
    listed = modules(folder)
    return _settings((folder / listed[0].path if listed else folder) / name)


def _of_model(folder: Path) -> dict[str, Any]:
    return _settings(folder / "config_sentence_transformers.json")


def _settings(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"found a {type(found).__name__}")
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(
            f"{path.parent} cannot be loaded: {path.name} cannot be read ({error}), expected a JSON object; fetch the "
            "model again"
        ) from error
    return found


def _parts(folder: Path) -> list[Path]:
    """The folder and those of its modules, such as 1_Pooling, that exist."""
    of_modules = [folder / module.path for module in modules(folder) if module.path]
    return [folder, *(part for part in of_modules if part.is_dir())]


def _listing(folder: Path) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "nothing"
