"""Vacuum: which data files of a root nobody needs any more, what keeps the others and what that costs; and their end.

    pins, retention  --plan-->  Plan: the files that nothing keeps, and each pin's bytes  --remove-->  they are gone

Kept are the files of a table's newest version and of the newest that can be used, of every pinned one, of every one
that was the newest within the retention, and whatever was written within it: files in flight belong to no version yet.
All else goes: files of old versions, and those of a crash. The log stays, so a version whose files are gone is known,
and refused by name. Of other programs' files (deletion vectors, change data) none is touched.
"""

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

import polars as pl
from pyarrow import fs

from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage.readability import LOG_ENTRY
from pipelines.storage.tables import Tables
from pipelines.storage.versions import TableVersion

LEFT_BEHIND = "_texts_"
"""How the name of plain texts begins that a killed scoring left under the root (pipelines/scoring/streams.py)."""

Listing = dict[str, fs.FileInfo]
"""Files by their path in a folder."""


class Pin(NamedTuple):
    """Versions that must stay, and who says so: `tag golden`, `model small@0123456789ab`."""

    name: str
    versions: tuple[TableVersion, ...]


class Found(NamedTuple):
    """The data files of one table (or those beside the tables), by their path under the root."""

    name: str
    sizes: dict[str, int]
    newest: set[str]  # of the newest version, whatever its age
    young: dict[str, float]  # within the retention -> when they were written, or last of the newest version
    pinned: list[set[str]]  # by each of the pins

    @property
    def needed(self) -> set[str]:
        """Whatever is pinned."""
        return self.newest | self.young.keys()

    @property
    def removed(self) -> list[str]:
        return sorted(self.sizes.keys() - self.needed.union(*self.pinned))

    @property
    def waiting(self) -> list[float]:
        """The times of the files that the retention alone keeps."""
        return [self.young[path] for path in self.young.keys() - self.newest.union(*self.pinned)]


@dataclass(frozen=True)
class Plan:
    """What a vacuum would do, or has done."""

    tables: Tables
    pins: Sequence[Pin]
    found: list[Found]
    retention_s: float

    def by_pin(self) -> pl.DataFrame:
        """pin, versions, bytes that it keeps beyond what is needed, and of them bytes_alone that no other pin keeps."""
        sizes = {path: size for one in self.found for path, size in one.sizes.items()}
        kept = [{path for one in self.found for path in one.pinned[at] - one.needed} for at in range(len(self.pins))]
        alone = [paths.difference(*kept[:at], *kept[at + 1 :]) for at, paths in enumerate(kept)]
        summed = [[sum(sizes[path] for path in paths) for paths in by_pin] for by_pin in (kept, alone)]
        versions = [", ".join(map(str, pin.versions)) for pin in self.pins]
        names = [pin.name for pin in self.pins]
        return pl.DataFrame({"pin": names, "versions": versions, "bytes": summed[0], "bytes_alone": summed[1]})

    def by_table(self) -> pl.DataFrame:
        """table, its files and bytes, and of them files_to_remove and bytes_to_remove."""
        rows = [
            (one.name, len(one.sizes), sum(one.sizes.values()), len(gone), sum(one.sizes[path] for path in gone))
            for one in self.found
            for gone in [one.removed]
        ]
        return pl.DataFrame(rows, ["table", "files", "bytes", "files_to_remove", "bytes_to_remove"], orient="row")

    def next_at(self) -> float | None:
        """When the first of the files leaves the retention that nothing else keeps; None where there is none."""
        return min((at + self.retention_s for one in self.found for at in one.waiting), default=None)

    def remove(self) -> None:
        """Delete what nothing keeps; a file that another vacuum deleted meanwhile is gone, too."""
        filesystem, root = self.tables.filesystem()
        for path in (path for one in self.found for path in one.removed):
            with suppress(FileNotFoundError):
                filesystem.delete_file(f"{root}/{path}")


def plan(tables: Tables, pins: Sequence[Pin], retention_s: float, now: float | None = None) -> Plan:
    """Look through a root; nothing is written.

    Args:
        now: seconds since 1970, by the clock that gave the files their times.
    """
    since = (time.time() if now is None else now) - retention_s
    found = [_look(tables, name, pins, since) for name in tables.existing()]
    filesystem, root = tables.filesystem()
    beside = _listing(filesystem, root, recursive=False)
    sizes = {path: info.size for path, info in beside.items() if path.startswith(LEFT_BEHIND)}
    young = {path: at for path in sizes if (at := _written_at(beside[path])) >= since}
    left_behind = Found("texts of killed scorings", sizes, set(), young, [set() for _ in pins])
    return Plan(tables, pins, [*found, left_behind], retention_s)


def _look(tables: Tables, name: str, pins: Sequence[Pin], since: float) -> Found:
    """One table. Where a version that must stay cannot be opened, its files are not known, and none is removed."""
    filesystem, root = tables.filesystem()
    there = _listing(filesystem, f"{root}/{name}")
    sizes = {f"{name}/{path}": info.size for path, info in there.items() if _is_data(path)}
    try:
        newest = _current(tables, name)
        moments = {f"{name}/{path}": _written_at(info) for path, info in there.items()} | _retired(
            tables, name, there, since
        )
        pinned = [
            {path for version in pin.versions if version.name == name for path in _files(version)} for pin in pins
        ]
    except UserError as error:
        tell(f"vacuum: {tables.path(name)} is left as it is: {error}")
        return Found(name, sizes, set(sizes), {}, [set() for _ in pins])
    young = {path: moments[path] for path in sizes if moments[path] >= since}
    return Found(name, sizes, newest & sizes.keys(), young, [paths & sizes.keys() for paths in pinned])


def data_files(tables: Tables, name: str) -> dict[str, int]:
    """Every data file in a table's folder, of whatever version or none: path there -> bytes."""
    filesystem, root = tables.filesystem()
    there = _listing(filesystem, f"{root}/{name}")
    return {path: info.size for path, info in there.items() if _is_data(path)}


def _current(tables: Tables, name: str) -> set[str]:
    """Of the newest version, and of those before it up to the newest that can be used."""
    newest, paths = tables.latest(name), set[str]()
    for version in newest.history() if newest else ():
        paths |= _files(version)
        if version.unusable is None:
            break
    return paths


def _files(version: TableVersion) -> set[str]:
    """Paths of the files that hold a version's rows, of the newest version's if these do, as after a compaction.

    Raises:
        UserError: it cannot be opened.
    """
    files, newest = version.files(), version.tables.latest(version.name)
    if newest and newest != version and newest.unreadable is None and newest.origin() == version.origin():
        return _files(newest)
    if version.unreadable:
        with suppress(UserError):  # its rows are nowhere: what is left of them stays
            files += version.rows_in().files()
    return _paths(version.name, (file["path"] for file in files))


def _retired(tables: Tables, name: str, there: Listing, since: float) -> dict[str, float]:
    """Of files that commits within the retention took out, when: until then they were of the newest version."""
    filesystem, root = tables.filesystem()
    retired = dict[str, float]()
    for entry in sorted(path for path, info in there.items() if LOG_ENTRY.fullmatch(path)):
        if (at := _written_at(there[entry])) < since:
            continue
        with filesystem.open_input_file(f"{root}/{name}/{entry}") as file:
            lines = file.read().splitlines()
        paths = [json.loads(line)["remove"]["path"] for line in lines if line.startswith(b'{"remove"')]
        retired |= dict.fromkeys(_paths(name, paths), at)
    return retired


def _paths(name: str, paths: Iterable[str]) -> set[str]:
    """As the log has them, quoted as in a URL, and as the files may be called."""
    return {f"{name}/{spelled}" for path in paths for spelled in (path, unquote(path))}


def _listing(filesystem: fs.FileSystem, folder: str, *, recursive: bool = True) -> Listing:
    found = filesystem.get_file_info(fs.FileSelector(folder, recursive=recursive))
    return {info.path.removeprefix(f"{folder}/"): info for info in found if info.is_file}


def _is_data(path: str) -> bool:
    """Whether a table's data may lie there: folders that begin with `_` or `.` are other programs' or the log."""
    return path.endswith(".parquet") and not any(part[:1] in ("_", ".") for part in path.split("/"))


def _written_at(info: fs.FileInfo) -> float:
    return float(info.mtime_ns / 1e9)
