"""Is there a place for what a stage will write? Asked before its work, so that an hour's is not lost at its end.

And a place for what does not fit in memory: `Scratch`.
"""

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO

from pipelines.stage.errors import UserError
from pipelines.stage.paths import folder_of
from pipelines.stage.progress import tell


class Scratch:
    """A temporary file without a name: closed where nobody holds it any more, gone with the process however it ends."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed below
        weakref.finalize(self, self.file.close)


def check_writable(folder: str | Path, what: str) -> None:
    """Refuse a folder, there or not yet, that nothing can be written into. What is no path (s3://) tells it itself.

    It is tried, with a file that is gone at once: permissions do not say what a file system lets root do.
    """
    if "://" in str(folder):
        return
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder_of(str(folder), what))):
            pass
    except OSError as error:
        raise UserError(f"{what} {folder} cannot be written: {error.strerror or error}; name another folder") from error


def check_room(folder: str | Path, num_bytes: float, what: str) -> None:
    """Warn where the disk has less room than the estimate, and refuse where it has not even half of it."""
    if "://" in str(folder):
        return
    free = shutil.disk_usage(_nearest(Path(folder))).free
    if num_bytes <= free:
        return
    told = f"{what} will take about {num_bytes / 1e9:,.1f} GB below {folder}, where {free / 1e9:,.1f} GB are free"
    if num_bytes > 2 * free:
        raise UserError(f"{told}; make room, or name another folder")
    tell(f"{told}: it may not suffice")


def _nearest(folder: Path) -> Path:
    """The folder, or the parent that is there."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())
