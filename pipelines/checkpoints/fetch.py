"""Models from a hub or an object store, fetched once per machine and read from its cache afterwards.

So sixteen actors on a node cost the hub one request.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from pyarrow import fs

from pipelines.stage.errors import UserError
from pipelines.storage import Tables

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py")
OTHER_RUNTIMES = ("onnx/*", "openvino/*", "runs/*")


def from_hub(model: str, revision: str | None) -> Path:
    """The hub cache's folder of a model. Raises UserError when it is neither there nor to be had."""
    try:
        folder = huggingface_hub.snapshot_download(
            model, revision=revision, allow_patterns=list(MODEL_FILES), ignore_patterns=list(OTHER_RUNTIMES)
        )
    except HFValidationError as error:
        raise UserError(
            f"model {model!r} is no folder and no hub id; expected a folder, package:NAME, s3://... or OWNER/NAME"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        why = "HF_HUB_OFFLINE is set" if huggingface_hub.constants.is_offline_mode() else _first_line(error)
        raise UserError(
            f"model {model}{at} is no folder here and could not be fetched from the hub ({why}); give a local folder, "
            f"check the id (and HF_TOKEN for a gated model), or set HF_HOME to a cache that has it"
        ) from error
    return Path(folder)


def from_object_store(uri: str) -> Path:
    """The copy of an s3:// folder in this machine's cache."""
    filesystem, path = Tables.at(uri).filesystem()
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return copy_once(filesystem, path, home / "object_store", uri)


def copy_once(filesystem: fs.FileSystem, path: str, cache: Path, uri: str) -> Path:
    """Copy a model's folder below `cache`, unless these very files (name, size, time) were copied before.

    The copy appears whole or not at all: it is made beside its place and renamed.
    """
    try:
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise UserError(
            f"model {uri} cannot be listed: {_first_line(error)}; check the URI and AWS_* credentials"
        ) from error
    names = {PurePosixPath(info.path).relative_to(path): info for info in found if info.is_file}
    wanted = {name: info for name, info in names.items() if _is_model_file(name)}
    if not wanted:
        raise UserError(
            f"model {uri}: found {len(names)} files, none of a model; expected config.json and *.safetensors"
        )
    listing = [f"{name} {info.size} {info.mtime_ns}" for name, info in sorted(wanted.items())]
    digest = hashlib.sha256("\n".join([uri, *listing]).encode()).hexdigest()[:16]
    target = cache / digest / PurePosixPath(path).name
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=target.parent))
        for name, info in wanted.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            fs.copy_files(info.path, str(partial / name), filesystem, fs.LocalFileSystem())
        _rename_unless_there(partial, target)
    return target


def _is_model_file(name: PurePosixPath) -> bool:
    return any(name.match(pattern) for pattern in MODEL_FILES) and f"{name.parts[0]}/*" not in OTHER_RUNTIMES


def _rename_unless_there(partial: Path, target: Path) -> None:
    """Of two processes that copied the same model, the second leaves the first one's copy alone."""
    try:
        partial.rename(target)
    except OSError:
        shutil.rmtree(partial)
        if not target.is_dir():
            raise


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
