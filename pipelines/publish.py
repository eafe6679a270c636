"""Publish a trained model: a folder that plain `SentenceTransformer(folder)` loads, with its manifest and model card.

    models/NAME/model  --copy, check, describe-->  FOLDER or s3://bucket/prefix

The folder is built beside its destination and renamed, so nobody ever sees half of it. On S3, which knows no rename,
manifest.json is written last: a publication is what has one.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from pyarrow import fs
from sentence_transformers import SentenceTransformer

from pipelines.checkpoints.models import row_of_weights, rows_of_model, trained_from
from pipelines.checkpoints.name import weights_sha256
from pipelines.checkpoints.run_folder import MODEL, RUN, RunFolder
from pipelines.publication.manifest import FORMAT, manifest_of
from pipelines.publication.model_card import card_pictures, model_card
from pipelines.report.quality import Measured, quality
from pipelines.report.svg import standalone
from pipelines.stage.disk import check_writable
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of
from pipelines.stage.progress import tell
from pipelines.storage import Tables
from pipelines.storage.commits import CurationResult

MANIFEST = "manifest.json"


def run(tables: Tables, model: str, to: str) -> str:
    """Publish the model named `NAME` or `NAME@12hex` to a folder or S3 URI. Returns where it lies."""
    if to.startswith("s3://"):
        bucket, rows = Tables.at(to).answering(), rows_of_model(tables, model)
        with tempfile.TemporaryDirectory() as building:
            return _upload(_build(tables, rows, Path(building) / "model"), bucket)
    target, rows = _target(to), rows_of_model(tables, model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".publishing-") as building:
        folder = _build(tables, rows, Path(building) / "model")
        if target.exists():
            tell(f"publish: replaces the earlier publication in {target}")
            target.rename(Path(building) / "replaced")
        folder.rename(target)
    return str(target)


def _target(to: str) -> Path:
    """A folder that can be written and holds nothing else."""
    if "://" in to:
        raise UserError(f"cannot publish to {to!r}: expected a folder or s3://bucket/prefix")
    target = path_of(to, "--to").resolve()  # a link leads to what is replaced
    check_writable(target.parent, "--to")
    _check_replaceable(fs.LocalFileSystem(), str(target), to)
    return target


def _build(tables: Tables, rows: pl.DataFrame, folder: Path) -> Path:
    """The publication, complete and seen to load, in a new local folder."""
    name = str(rows["name"][0])
    trained = RunFolder(tables, name)
    source = f"{trained.path}/{MODEL}"
    if not trained.holds(MODEL):
        raise UserError(f"the models table knows {name}, but {source} is not there; train it again with distill")
    folder.mkdir()
    local = fs.LocalFileSystem()
    fs.copy_files(source, str(folder), source_filesystem=trained.filesystem, destination_filesystem=local)
    row = row_of_weights(rows, weights_sha256(folder))
    manifest = manifest_of(tables, row, trained.read(RUN))
    measured = _measured(tables, row)
    for file, picture in card_pictures(manifest, measured).items():
        (folder / file).write_text(standalone(picture), encoding="utf-8")
    manifest["files"] = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    loaded = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    card = model_card(manifest, loaded, measured)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def _measured(tables: Tables, row: dict[str, Any]) -> list[Measured]:
    """What the model is worth, as `report` has it: beside the teacher of the curation that it was trained on."""
    curation = trained_from(tables, row)[0].origin().commit.reports(CurationResult)
    return quality(tables, [row["model_id"]], curation.teacher if curation else "")


def _check_replaceable(filesystem: fs.FileSystem, path: str, to: str) -> None:
    """Only an empty folder or an earlier publication may be replaced."""
    found = filesystem.get_file_info(path)
    if found.type == fs.FileType.File:
        raise UserError(f"{to} is a file; expected a folder (a new one, or an earlier publication)")
    entries = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    if any(entry.base_name == MANIFEST and entry.is_file for entry in entries):
        with filesystem.open_input_file(f"{path}/{MANIFEST}") as file:
            if f'"format": "{FORMAT}"'.encode() in file.read(200):
                return
    if entries:
        names = ", ".join(sorted(entry.base_name for entry in entries)[:5])
        raise UserError(f"{to} holds other things ({names}) and is not an earlier publication: name another folder")


def _upload(folder: Path, target: Tables) -> str:
    filesystem, path = target.filesystem()
    _check_replaceable(filesystem, path, target.uri)
    filesystem.delete_dir_contents(path, missing_dir_ok=True)
    manifest = Path(shutil.move(folder / MANIFEST, folder.parent / MANIFEST))
    fs.copy_files(str(folder), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=filesystem)
    with filesystem.open_output_stream(f"{path}/{MANIFEST}") as file:
        file.write(manifest.read_bytes())
    return target.uri
