"""What a model's folder is called, NAME@12hex, and the hashes behind it."""

import hashlib
import re
from functools import cache
from pathlib import Path

from pipelines.checkpoints.inspect import model_files, weight_files


def weights_sha256(folder: Path) -> str:
    """What `sha256sum model.safetensors` prints; for several files, sha256 over their digests, one a line."""
    digests = [_sha256(path) for path in weight_files(folder)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def file_digests(folder: Path) -> dict[str, str]:
    """sha256 of each file that what the model computes depends on, by its path in the folder."""
    return {str(path.relative_to(folder)): _sha256(path) for path in model_files(folder)}


def name_of(folder: Path, sha256: str) -> str:
    """NAME@12hex of a folder, `sha256` being that of what is to be told apart."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', _basename(folder))}@{sha256[:12]}"


def _basename(folder: Path) -> str:
    """NAME of NAME/model (a package) and of models--OWNER--NAME/snapshots/COMMIT (the hub's cache), else the folder."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.split("--")[-1]
    return folder.parent.name if folder.name == "model" else folder.name


def _sha256(path: Path) -> str:
    """Read once in a process, unless the file changed: a name is asked for each precision, and by several checks."""
    found = path.stat()
    return _digest(path, found.st_ino, found.st_mtime_ns, found.st_size)


@cache
def _digest(path: Path, *state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
