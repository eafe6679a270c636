"""The kept checkpoints, where Ray Train's own list of them was lost: a disk that was full, a kill while it wrote it.

Ray Train 2.60 writes its list over the last one, in place, and refuses a run whose list it cannot read. Checkpoints
are never changed once they are copied, so the newest one that is whole takes its place.
"""

import json
from pathlib import Path

from pyarrow import fs
from ray.train import Checkpoint

from pipelines.checkpoints.run_folder import CHECKPOINTS
from pipelines.stage.progress import tell
from pipelines.storage import Tables

FILES = "files.json"
RAYS_LIST = "checkpoint_manager_snapshot.json"


def list_files(folder: Path) -> None:
    """Write into a checkpoint's folder what files it has, and their sizes in bytes."""
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    (folder / FILES).write_text(json.dumps(sizes))


def forget_damaged_list(kept: Tables) -> None:
    """Remove Ray Train's list of checkpoints where it is no list, or names one that is gone."""
    filesystem, root = kept.filesystem()
    path = f"{root}/{CHECKPOINTS}/{RAYS_LIST}"
    if filesystem.get_file_info(path).type != fs.FileType.File:
        return
    try:
        with filesystem.open_input_file(path) as file:
            listed = [one["checkpoint_dir_name"] for one in json.loads(file.read())["checkpoint_results"]]
    except (ValueError, KeyError, TypeError):
        listed = [""]
    folders = [f"{root}/{CHECKPOINTS}/{name}" for name in listed]
    if "" in listed or any(found.type != fs.FileType.Directory for found in filesystem.get_file_info(folders)):
        tell("distill: the list of checkpoints is damaged: going on from the newest one that is whole")
        filesystem.delete_file(path)


def last_whole_checkpoint(kept: Tables) -> Checkpoint | None:
    """The newest checkpoint all of whose files were copied; None when there is none."""
    filesystem, root = kept.filesystem()
    selector = fs.FileSelector(f"{root}/{CHECKPOINTS}", allow_not_found=True)
    folders = [found.path for found in filesystem.get_file_info(selector) if found.type == fs.FileType.Directory]
    whole = (folder for folder in sorted(folders, reverse=True) if _is_whole(filesystem, folder))
    return next((Checkpoint(folder, filesystem) for folder in whole), None)


def _is_whole(filesystem: fs.FileSystem, folder: str) -> bool:
    try:
        with filesystem.open_input_file(f"{folder}/{FILES}") as file:
            sizes = json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return False
    found = filesystem.get_file_info([f"{folder}/{name}" for name in sizes])
    return [one.size for one in found] == list(sizes.values())
