"""Can the rows of a version be read here? Its log, its protocol, its files and its columns, without reading a row.

    why_unreadable(version) -> None, or a predicate: "lacks 2 of its 3 files", "has no column query_id; expected ..."

One listing of the table's folder tells which files are there: 10,000 files take a tenth of a second on a local disk.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from deltalake.exceptions import DeltaError
from pyarrow import fs

from schemas import TABLES

LOG_ENTRY, CHECKPOINT = re.compile(r"_delta_log/(\d{20})\.json"), re.compile(r"_delta_log/(\d{20})\.checkpoint")
REPLACED = {"curated_triplets", "dropped_triplets", "evaluations"}
"""Tables in which a commit takes rows out."""

OUTSIDE = re.compile(r"/|\w+:")

if TYPE_CHECKING:
    from pipelines.storage.versions import TableVersion

WRITABLE = {"appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "timestampNtz"}
WRITABLE |= {"deletionVectors"}
"""Features of a table's protocol with which delta-rs 1.6.6 commits and polars 2.1 reads what was committed (tried)."""


def why_unreadable(version: "TableVersion") -> str | None:
    """What keeps the rows of exactly this version from being read."""
    there = _listing(version)
    return _why_closed(version, there) or _why_incomplete(version, there) or why_foreign(version)


def why_unwritable(version: "TableVersion") -> str | None:
    """What keeps commits from being added to the table after this version, were its rows to be replaced."""
    there = _listing(version)
    if why := _why_closed(version, there):
        return why
    if f"_delta_log/{version.version:020}.json" not in there:  # a checkpoint tells its rows, but delta-rs adds nothing
        return "has no entry in the log any more"
    unknown = sorted(set(version.delta.protocol().writer_features or ()) - WRITABLE)
    if unknown:
        return f"asks its writers for {', '.join(unknown)}, which delta-rs does not write"
    is_append_only = version.delta.metadata().configuration.get("delta.appendOnly") == "true"
    return "may only be added to (delta.appendOnly)" if is_append_only and version.name in REPLACED else None


def _why_closed(version: "TableVersion", there: dict[str, int]) -> str | None:
    """What is wrong with the log, or needed of readers. delta-rs passes over an empty entry, and with it over rows."""
    try:
        version.open().collect_schema()
    except DeltaError as error:
        return f"cannot be opened ({first_line(error)})"
    entry = empty_entry(version, there)
    return f"has an empty entry in its log, {entry}, instead of what was committed" if entry else None


def empty_entry(version: "TableVersion", there: dict[str, int] | None = None) -> str | None:
    """The file name of the first empty entry that a version's log has; no version after it can be whole."""
    there = _listing(version) if there is None else there
    entries = {int(match[1]): size for path, size in there.items() if (match := LOG_ENTRY.fullmatch(path))}
    checkpoints = [int(match[1]) for path in there if (match := CHECKPOINT.match(path))]
    first = max((number for number in checkpoints if number <= version.version), default=-1) + 1
    empty = (number for number in range(first, version.version + 1) if entries.get(number) == 0)
    return next((f"{number:020}.json" for number in empty), None)


def _why_incomplete(version: "TableVersion", there: dict[str, int]) -> str | None:
    """Files that are gone, or not as long as the log says; files outside the table's folder are not looked for."""
    files = {row["path"]: row["size_bytes"] for row in version.files() if not OUTSIDE.match(row["path"])}
    sizes = {path: there.get(path, there.get(unquote(path))) for path in files}
    if gone := sum(size is None for size in sizes.values()):
        return f"lacks {gone:,} of its {len(files):,} data files (another program's VACUUM?)"
    torn = [path for path, size in sizes.items() if size != files[path]]
    return f"has {len(torn):,} data files of another length than its log says ({torn[0]})" if torn else None


def why_damaged(version: "TableVersion") -> str | None:
    """Files that end as no Parquet does: a machine that lost power leaves some of the right length, but of zeros.

    Each file is opened, so that this is asked once before work, not by every reader; files on S3 are written whole.
    """
    if not version.tables.is_local:
        return None
    folder, paths = Path(version.tables.uri, version.name), (row["path"] for row in version.files())
    damaged = [path for path in paths if not OUTSIDE.match(path) and not _ends_as_parquet(folder, path)]
    return f"has {len(damaged):,} damaged data files ({damaged[0]}: no Parquet at its end)" if damaged else None


def _ends_as_parquet(folder: Path, name: str) -> bool:
    path = folder / name
    with (path if path.exists() else folder / unquote(name)).open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return file.read() == b"PAR1"


def why_foreign(version: "TableVersion") -> str | None:
    """Columns that another program took away or gave another type."""
    table = TABLES[version.name]
    wanted, found = table.polars_schema(), version.open().collect_schema()
    if lacking := wanted.keys() - found.keys() - table.nullable_columns():
        return f"has no column {', '.join(sorted(lacking))}; expected {', '.join(wanted)}"
    retyped = [name for name in wanted if name in found and found[name] != wanted[name]]
    told = "; ".join(f"{name} as {found[name]}, expected {wanted[name]}" for name in retyped)
    return f"has the column {told}" if retyped else None


def _listing(version: "TableVersion") -> dict[str, int]:
    """Size of each file of the table, log and data, by its path in the table's folder."""
    filesystem, root = version.tables.filesystem()
    folder = f"{root}/{version.name}"
    found = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    return {info.path.removeprefix(f"{folder}/"): info.size for info in found if info.is_file}


def first_line(error: DeltaError) -> str:
    """What delta-rs says, without its backtrace."""
    return str(error).splitlines()[0][:160]
