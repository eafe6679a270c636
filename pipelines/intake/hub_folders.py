"""What Hugging Face's libraries leave in a folder: a hub's download, what datasets.save_to_disk wrote, shards.

A download is one snapshot, a saved data set the files that its state.json lists; what of them is not there is said.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from pipelines.stage.errors import UserError, first_of
from pipelines.stage.progress import tell

DESCRIBES_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
MADE_BY_MAP = re.compile(r"cache-[0-9a-f]{16}\b.*\.arrow")  # by datasets, of the data beside it
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\..*)?")


def snapshot(folder: Path) -> list[Path]:
    """Of a hub's download (datasets--OWNER--NAME) its newest revision, since the others are older data."""
    blobs = folder.parents[1] / "blobs" if folder.parent.name == "snapshots" else folder / ".cache/huggingface/download"
    if left := sorted(blobs.rglob("*.incomplete")):
        raise UserError(f"{left[0]}: the download of {folder} did not end: run it again, or remove that file")
    snapshots, newest = folder / "snapshots", folder / "refs" / "main"
    if not folder.name.startswith("datasets--") or not snapshots.is_dir():
        return []
    names = (
        [newest.read_text(errors="replace").strip()]
        if newest.is_file()
        else sorted(path.name for path in snapshots.iterdir())
    )
    if len(names) != 1 or not (snapshots / names[0]).is_dir():
        raise UserError(f"{snapshots} holds the snapshots {first_of(names)}, expected one: give the one to read")
    return [snapshots / names[0]]


def tell_missing_shards(folder: Path, entries: list[Path]) -> None:
    """Names such as train-00000-of-00005.parquet say how many there are: what is not there is not read."""
    matches = filter(None, (SHARD.fullmatch(path.name) for path in entries))
    for (name, total, _), there in Counter((match[1], match[3], match[4]) for match in matches).items():
        if there < int(total):
            tell(f"{folder} holds {there:,} of the {int(total):,} files of {name}: the others are not read")


def files_of_data_set(folder: Path) -> set[str]:
    """The files that datasets.save_to_disk lists; none where it did not write this folder."""
    state = _json(folder / "state.json")
    splits = list(map(str, _list(_json(folder / "dataset_dict.json").get("splits"))))
    files = [file for file in _list(state.get("_data_files")) if isinstance(file, dict)]
    listed = {str(file["filename"]) for file in files if "filename" in file}
    lost = [name for name in [*splits, *sorted(listed)] if not (folder / name).exists()]
    if lost:
        raise UserError(f"{folder} was saved with {first_of(lost)}, which it does not hold: save or copy it again")
    indices = [name for name, value in state.items() if name.startswith("_indices") and value]
    if indices:
        raise UserError(
            f"{folder} is a selection of rows ({indices[0]} in its state.json), which is not read: save it with "
            "flatten_indices() first"
        )
    if splits:
        tell(f"{folder} is a data set whose splits are all read: {first_of(splits)}")
    return listed


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes()) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is no JSON ({error}), expected that of datasets.save_to_disk: save it again"
        ) from error
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
