"""A model's folder on disk: what it must hold before anything is loaded, and the identity of what it means.

A teacher's name is `all-MiniLM-L6-v2@3f9a01c2d4e5`. The hex covers everything that a score depends on: weights,
configs, tokenizer, prompts, maximum length, dtype and kind of teacher; not the engine that computes it.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from safetensors import SafetensorError, safe_open

from pipelines.stage.errors import UserError

TeacherKind = Literal["cross_encoder", "bi_encoder"]

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
MEANING_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.py", "*.safetensors")


class Prompts(NamedTuple):
    """What is put in front of each text; empty for nothing."""

    query: str
    passage: str


def check_checkpoint(folder: str, loader: str) -> None:
    """Refuse a folder that no model can be loaded from; `loader` completes "from ... as Model" in the advice.

    Raises:
        UserError: no config, no safetensors, weights that cannot be read, or no tokenizer; with what was found.
    """
    root = Path(folder)
    if not ((root / "config.json").exists() or (root / "modules.json").exists()):
        raise UserError(
            f"{folder} holds no model: found {_listing(root)}; expected config.json, *.safetensors and tokenizer"
        )
    if not weight_files(folder):
        unsafe = [path.name for pattern in UNSAFE_WEIGHTS for path in sorted(root.glob(pattern))]
        if unsafe:
            raise UserError(
                f"{folder} has its weights as {', '.join(unsafe)}, which may run code when loaded; expected "
                f'*.safetensors. If you trust the file, convert it: python -c "from {loader} as Model; '
                f'Model.from_pretrained({folder!r}).save_pretrained({folder!r})"'
            )
        raise UserError(f"{folder} has no weights: found {_listing(root)}; expected *.safetensors")
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{path} cannot be read ({path.stat().st_size:,} bytes: {error}); the file is truncated, damaged or "
                f"only a Git LFS pointer; fetch it again"
            ) from error
    if not any(path for part in (root, *_module_folders(root)) for name in TOKENIZER_FILES for path in part.glob(name)):
        raise UserError(
            f"{folder} has no tokenizer: found {_listing(root)}; expected tokenizer.json beside the weights"
        )


def check_outputs(folder: str) -> None:
    """Refuse a cross-encoder whose config names several outputs, before any worker loads it."""
    config = Path(folder, "config.json")
    try:
        labels = json.loads(config.read_text(encoding="utf-8")).get("id2label")
    except (ValueError, AttributeError, OSError) as error:
        raise UserError(f"{config} cannot be read ({error}); expected a JSON object; fetch the model again") from error
    if labels is not None and len(labels) != 1:
        raise several_outputs(folder, [str(label) for label in labels.values()])


def several_outputs(folder: str, labels: list[str]) -> UserError:
    """A cross-encoder must have one output; what this one has instead."""
    return UserError(
        f"{folder} has {len(labels)} outputs ({', '.join(labels)}), expected one relevance logit; give a re-ranker "
        f"with num_labels 1, or save this model with the one row of its head that means relevance"
    )


def weight_files(folder: str) -> list[Path]:
    """The safetensors files of a model and of its sentence-transformers modules, in a fixed order."""
    return [path for path in _files(Path(folder)) if path.suffix == ".safetensors"]


def weights_sha256(folder: str) -> str:
    """What `sha256sum model.safetensors` prints; for several files, sha256 over their digests, one a line."""
    digests = [_sha256(path) for path in weight_files(folder)]
    if not digests:
        raise UserError(f"{folder} has no weights: found {_listing(Path(folder))}; expected *.safetensors")
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def prompts_of(folder: str, kind: TeacherKind, query_prompt: str | None, passage_prompt: str | None) -> Prompts:
    """The prompts as given; where None, a sentence-transformers model's own.

    Its saved config may call the passage's prompt document, passage or corpus, and an empty "document" is only filler.
    """
    config = Path(folder) / "config_sentence_transformers.json"
    own: dict[str, str] = {}
    default = ""
    if kind == "bi_encoder" and config.exists():
        try:
            settings = json.loads(config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{config} is no JSON: {error}; fetch the model again") from error
        own = {name: prompt or "" for name, prompt in (settings.get("prompts") or {}).items()}
        default = own.get(settings.get("default_prompt_name") or "", "")
    query = own.get("query", default) if query_prompt is None else query_prompt
    named = [own[name] for name in ("document", "passage", "corpus") if own.get(name)]
    passage = (named[0] if named else own.get("document", default)) if passage_prompt is None else passage_prompt
    return Prompts(query, passage)


def teacher_name(
    folder: str,
    kind: TeacherKind,
    *,
    max_tokens: int,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    dtype: str = "float32",
) -> str:
    """`NAME@12hex`, the same that a teacher from this folder has as its `name`; nothing is loaded."""
    root = Path(folder)
    prompts = prompts_of(folder, kind, query_prompt, passage_prompt)
    files = {str(path.relative_to(root)): _sha256(path) for path in _files(root)}
    meaning = {"kind": kind, "files": files, "prompts": prompts, "max_tokens": max_tokens, "dtype": dtype}
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', _basename(root))}@{digest}"


def _basename(root: Path) -> str:
    """NAME of NAME/model (a package) and of models--OWNER--NAME/snapshots/COMMIT (the hub's cache), else the folder."""
    repository = root.parent.parent.name
    if root.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.split("--")[-1]
    return root.parent.name if root.name == "model" else root.name


def _files(root: Path) -> Iterator[Path]:
    """What a score depends on: the files of the folder and of its modules, sorted by path."""
    folders = [root, *_module_folders(root)]
    return iter(sorted({path for part in folders for pattern in MEANING_FILES for path in part.glob(pattern)}))


def _module_folders(root: Path) -> list[Path]:
    """The subfolders that modules.json names, such as 1_Pooling, where they exist."""
    if not (root / "modules.json").exists():
        return []
    try:
        modules = json.loads((root / "modules.json").read_text(encoding="utf-8"))
        return [root / module["path"] for module in modules if module["path"] and (root / module["path"]).is_dir()]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{root / 'modules.json'} is no list of sentence-transformers modules: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listing(root: Path) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir()) if root.is_dir() else []
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "nothing"
