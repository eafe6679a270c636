"""A Delta table that anyone wrote, as an input: which files hold the rows of one version, and which rows of each.

Only the log is read here: pipelines/intake reads the rows. Deletion vectors are honoured; a table that needs more of
its reader (column mapping, say) is refused, since its files do not hold what they seem to.
"""

import hashlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from numpy.typing import NDArray

from pipelines.stage.errors import UserError

LOG = "_delta_log"
READABLE = {"deletionVectors", "timestampNtz", "typeWidening", "typeWidening-preview", "v2Checkpoint"}
READABLE |= {"vacuumProtocolCheck", "columnMapping"}  # which may be on, and no column be mapped
MAPPED = {"id", "name"}


@dataclass(frozen=True)
class TableFile:
    """One data file of a version."""

    path: str
    partitions: Mapping[str, Any]  # the columns that are not in the file
    is_kept: NDArray[np.bool_] | None  # by row; rows beyond its end are kept; None: all are

    def keeps(self, row: int) -> bool:
        """Whether the row of this number, counted from 1, is none that was deleted."""
        return self.is_kept is None or row > len(self.is_kept) or bool(self.is_kept[row - 1])


@dataclass(frozen=True)
class ForeignTable:
    """One version, all of it that its log says."""

    version: int
    columns: tuple[str, ...]
    files: tuple[TableFile, ...]  # by their paths
    sha256: str  # of the table's id, the version and its files
    size_bytes: int


def is_table(folder: Path) -> bool:
    """Whether it has a log, be it one that cannot be read."""
    log = folder / LOG
    return log.exists() or log.is_symlink()


def open_table(folder: Path, version: int | None = None) -> ForeignTable:
    """The given version, or the newest.

    Raises:
        UserError: no such version, a log that cannot be read, files that are gone, or a table that asks too much.
    """
    with tempfile.TemporaryDirectory() as place:
        try:
            table = _at(folder, _linked(folder, Path(place)), version)
            _refuse_what_is_not_known(folder, table)
            return _read_log(folder, table)
        except DeltaError as error:
            said = str(error).splitlines()[0].replace(place, str(folder))
            raise UserError(
                f"the log of the Delta table {folder} cannot be read ({said}), expected a "
                f"whole {LOG} of a known protocol: restore it from a copy, or write its rows as Parquet and give that"
            ) from error


def _linked(folder: Path, place: Path) -> Path:
    """A folder that shows the table's log: of one called a%20b the library would look for `a b`, through links too."""
    (place / LOG).mkdir()
    for path in chain((folder / LOG).iterdir(), (path for path in folder.iterdir() if path.name != LOG)):
        if path.suffix != ".parquet" or path.parent.name == LOG:
            Path(place, path.relative_to(folder)).symlink_to(path.absolute())
    return place


def _at(folder: Path, link: Path, version: int | None) -> DeltaTable:
    try:
        newest = DeltaTable(str(link))
    except TableNotFoundError as error:
        raise UserError(
            f"{folder} has a {LOG} but no commit in it, expected a Delta table: restore its log from a copy, or remove "
            f"the {LOG} if this is no table"
        ) from error
    if version is None or version == newest.version():
        return newest
    if version > newest.version():
        raise UserError(f"the Delta table {folder} has no version {version}; its newest is {newest.version()}")
    try:
        return DeltaTable(str(link), version=version)
    except DeltaError as error:
        raise UserError(
            f"version {version} of the Delta table {folder} cannot be read ({str(error).splitlines()[0]}): its log "
            f"may have been cleaned; its newest is {newest.version()}"
        ) from error


def _refuse_what_is_not_known(folder: Path, table: DeltaTable) -> None:
    unknown = set(table.protocol().reader_features or ()) - READABLE
    if table.metadata().configuration.get("delta.columnMapping.mode") in MAPPED:
        unknown.add("columnMapping")
    if unknown:
        raise UserError(
            f"the Delta table {folder} needs a reader with {', '.join(sorted(unknown))}, which this is not: write its "
            "rows as plain Parquet with the program that made it, and give that"
        )


def _read_log(folder: Path, table: DeltaTable) -> ForeignTable:
    actions = pa.table(table.get_add_actions()).sort_by("path").to_pylist()
    vectors = pa.table(table.deletion_vectors())
    is_kept = {
        unquote(uri).removeprefix(unquote(table.table_uri)): vector.values.to_numpy(zero_copy_only=False)
        for uri, vector in zip(vectors["filepath"].to_pylist(), vectors["selection_vector"], strict=True)
    }
    of_action = {unquote(action["path"]): action for action in actions}
    assert is_kept.keys() <= of_action.keys(), "each deletion vector is of a file"
    files = tuple(  # whose paths are URLs in a shallow clone
        TableFile(str(folder / re.sub("^file:/+", "/", path)), action.get("partition") or {}, is_kept.get(path))
        for path, action in of_action.items()
        if action["num_records"] != 0
    )
    _refuse_lost_files(folder, table.version(), files)
    said = [f"{table.metadata().id}@{table.version()}"]
    said += [f"{action['path']}:{action['size_bytes']}" for action in actions]
    return ForeignTable(
        version=table.version(),
        columns=tuple(field.name for field in table.schema().fields),
        files=files,
        sha256=hashlib.sha256("\n".join(said).encode()).hexdigest(),
        size_bytes=sum(action["size_bytes"] for action in actions),
    )


def _refuse_lost_files(folder: Path, version: int, files: tuple[TableFile, ...]) -> None:
    lost = [file.path for file in files if not Path(file.path).is_file()]
    if lost:
        raise UserError(
            f"version {version} of the Delta table {folder} lacks {len(lost)} of its {len(files)} data files, the "
            f"first {lost[0]}: they were vacuumed or not copied; give a version whose files are there, {folder}@VERSION"
        )
