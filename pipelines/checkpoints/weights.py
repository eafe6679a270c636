"""A model's weights as files: safetensors only, and one sha256 that names them."""

import hashlib
from pathlib import Path

from pipelines.stage.errors import UserError

BLOCK_BYTES = 1 << 20


def safetensors_files(folder: Path) -> list[Path]:
    """The folder's weight files by name. UserError without any: other formats can run code when they are loaded."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise UserError(
            f"{folder} has no *.safetensors (found: {found}); only safetensors is read, since other weight files can "
            "run code. Save the model again with save_pretrained or SentenceTransformer.save"
        )
    return files


def weights_sha256(folder: Path) -> str:
    """sha256 over the bytes of the weight files in order of name: `cat *.safetensors | sha256sum` in a shell."""
    digest = hashlib.sha256()
    for path in safetensors_files(folder):
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()
