"""Where a model is: a folder, an installed package, s3:// or a model hub, always as a local folder."""

import importlib.util
from pathlib import Path

from pipelines.checkpoints.fetch import from_hub, from_object_store
from pipelines.stage.errors import UserError


def find(model: str, revision: str | None = None) -> Path:
    """The local folder of a model.

    Args:
        model: a folder, `s3://bucket/folder`, `package:NAME` (a Python package that carries a model) or a hub id.
        revision: branch, tag or commit of a hub id.
    Raises:
        UserError: there is no such model, or it cannot be reached.
    """
    if model.startswith("s3://"):
        return from_object_store(model)
    if model.startswith("package:"):
        return _in_package(model.removeprefix("package:"))
    path = Path(model).expanduser()
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
    return from_hub(model, revision)


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
