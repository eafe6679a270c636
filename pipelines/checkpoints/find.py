"""Where a model is: a folder, an installed package, s3:// or a model hub, always as a local folder.

What is far away is fetched once per machine and read from its cache then: sixteen actors cost the hub one request.
"""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from pyarrow import fs

from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of
from pipelines.stage.printable import counted

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py")
OTHER_RUNTIMES = ("onnx/*", "openvino/*", "runs/*")
HUB_ANSWERS_S = 20.0


def find(model: str, revision: str | None = None) -> Path:
    """The local folder of a model.

    Args:
        model: a folder, `s3://bucket/folder`, `package:NAME` (a Python package that carries a model) or a hub id.
        revision: branch, tag or commit of a hub id.
    Raises:
        UserError: there is no such model, or it cannot be reached.
    """
    if model.startswith("s3://"):
        from pipelines.storage import Tables  # the benches find their models without tables

        cache = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "object_store"
        return copy_once(*Tables.at(model).answering().filesystem(), cache, model)
    if model.startswith("package:"):
        return _in_package(model.removeprefix("package:"))
    path = path_of(model, "model")
    if path.is_dir():
        return path.absolute()
    if path.exists():
        raise UserError(
            f"model {model} is a file; expected the folder that holds it, with config.json and *.safetensors"
        )
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        raise UserError(
            f"model {model}: there is no such folder; expected a folder, package:NAME, s3://... or a hub id"
        )
    return _from_hub(model, revision)


def reach(model: str, revision: str | None = None) -> str:
    """Where a model is found: `find`, but of a hub's model that is not here yet only the hub is asked.

    Raises:
        UserError: as `find` does.
    """
    if not _is_hub_id(model):
        return str(find(model, revision))
    with suppress(LocalEntryNotFoundError, HFValidationError):
        return huggingface_hub.snapshot_download(model, revision=revision, local_files_only=True)
    with _hub_errors(model, revision):
        found = huggingface_hub.HfApi().model_info(model, revision=revision, timeout=HUB_ANSWERS_S)
    return f"the hub has it at {found.sha}"


def _is_hub_id(model: str) -> bool:
    is_path = model.startswith(("s3://", "package:", "/", "./", "../", "~")) or model.count("/") > 1
    return not is_path and not path_of(model, "model").exists()


def _in_package(name: str) -> Path:
    """The folder inside an installed package that has the model's config.json; the package is not imported."""
    package = name.replace("-", "_")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"model package:{name}: no such package is installed; pip install {name.replace('_', '-')}")
    root = Path(spec.submodule_search_locations[0])
    folders = {path.parent for path in root.rglob("config.json") if any(path.parent.glob("*.safetensors"))}
    if len(folders) != 1:
        found = ", ".join(sorted(str(folder.relative_to(root)) for folder in folders)) or "none"
        raise UserError(
            f"model package:{name}: expected one folder with config.json and *.safetensors under {root}, found "
            f"{found}; give the folder itself"
        )
    return folders.pop()


def _from_hub(model: str, revision: str | None) -> Path:
    """The hub cache's folder of a model. Raises UserError when it is neither there nor to be had."""
    with _hub_errors(model, revision):
        folder = huggingface_hub.snapshot_download(
            model, revision=revision, allow_patterns=list(MODEL_FILES), ignore_patterns=list(OTHER_RUNTIMES)
        )
    return Path(folder)


@contextmanager
def _hub_errors(model: str, revision: str | None) -> Iterator[None]:
    """What the hub's client raises, as UserErrors that say what to do."""
    try:
        yield
    except HFValidationError as error:
        raise UserError(
            f"model {model!r} is no folder and no hub id; expected a folder, package:NAME, s3://... or OWNER/NAME"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        why = "HF_HUB_OFFLINE is set" if huggingface_hub.constants.is_offline_mode() else _first_line(error)
        raise UserError(
            f"model {model}{at} is no folder here and could not be fetched from the hub ({why}); give a local folder, "
            f"check the id (and HF_TOKEN for a gated model), name another --recipe, or set HF_HOME to a cache"
        ) from error


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
            f"model {uri}: found {counted(len(names), 'file')}, none of a model; expected config.json and *.safetensors"
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
