"""Which files an input holds: the given ones, and those of folders, sorted; Delta tables as one version each.

    PATH | FOLDER | TABLE | TABLE@VERSION  --find_files-->  InputFile: path, source, the columns its folders' names give

What would be read wrong stops: a link to nothing, a folder that cannot be listed, a pipe, a download that did not end,
data of a format that is not read, an Iceberg or Hudi table, a file out of a table. What is no data by its name is
skipped and named; what Spark hides (names that begin with . or _) is skipped and counted. A file that is there twice,
by a link or given twice, is read once; one that holds no row is left out and named. The source is a file's name
without its endings, or the given folder's name, of a download from a hub the data set's; a folder named source=abc
gives a column, as any name=value does.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from pipelines.intake.delimited import Quoting
from pipelines.intake.formats import DATA_ENDINGS, EXPECTED, WithoutRows
from pipelines.intake.hub_folders import DESCRIBES_DATA, MADE_BY_MAP, files_of_data_set, snapshot, tell_missing_shards
from pipelines.intake.input_files import InputFile, Partitions, stem
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.paths import path_of
from pipelines.stage.printable import counted
from pipelines.stage.progress import tell
from pipelines.storage.foreign_tables import is_table, open_table

UNFINISHED = {".incomplete", ".part", ".partial", ".crdownload", ".download", ".filepart", ".aria2", ".tmp", ".temp"}
OTHER_DATA = set(".zip .7z .rar .tar .tgz .bz2 .xz .lzma .lz4 .sz .snappy .br .z .xls .xlsx .xlsm .ods".split())
OTHER_DATA |= set(".avro .orc .pkl .pickle .npy .npz .h5 .hdf5 .sqlite .sqlite3 .duckdb .lance .mdb .tfrecord".split())
NULL = "__HIVE_DEFAULT_PARTITION__"
OTHER_TABLES = {  # what lies in the folder of a table of another kind -> its name
    ".hoodie": "a Hudi table",
    "metadata/*.metadata.json": "an Iceberg table",
    "_spark_metadata": "the output of a Spark stream, whose _spark_metadata says which files count",
}


def find_files(inputs: Iterable[str], quoting: Quoting | None = None) -> list[InputFile]:
    """Everything that is to be read, in the order of the inputs; `quoting` of CSV and TSV as delimited.py has it.

    Raises:
        UserError: an input is not there, or holds nothing or something that would be read wrong.
    """
    search = _Search()
    for given in inputs:
        try:
            search.add(given)
        except OSError as error:
            raise UserError(
                f"{error.filename or given} cannot be read ({error.strerror}), expected a readable file or folder: "
                "mend it, or give the files that are to be read"
            ) from error
    if search.repeated:
        tell(f"read once, though given twice or there again by a link: {first_of(search.repeated)}")
    return _with_rows([replace(file, quoting=quoting) for file in search.found])


def _with_rows(files: list[InputFile]) -> list[InputFile]:
    """The files but those without rows, which are named; one that is alone is refused where it is read."""
    empty = [file.path for file in files if _is_empty(file)] if len(files) > 1 else []
    if empty and len(empty) == len(files):
        raise UserError(f"no file holds a row: {first_of(empty)}; expected rows as {EXPECTED}: give other files")
    if empty:
        tell(f"left out, as they hold no row: {first_of(empty)}")
    return [file for file in files if file.path not in empty]


def _is_empty(file: InputFile) -> bool:
    try:
        file.open()
    except UserError as error:  # any other is told where it is read
        return isinstance(error, WithoutRows)
    return False


class _Search:
    """What was found so far, in all inputs."""

    def __init__(self) -> None:
        self.found: list[InputFile] = []
        self.repeated: list[str] = []
        self._seen: set[object] = set()
        self._no_tables: set[Path] = set()

    def is_new(self, path: Path, kind: object) -> bool:
        """Whether this is the first path to the same file or folder, with the same columns of its folders' names."""
        status = path_of(str(path), "input").stat()
        key = status.st_dev, status.st_ino, str(kind)
        is_new = key not in self._seen
        self._seen.add(key)
        if not is_new:
            self.repeated.append(str(path))
        return is_new

    def add(self, given: str) -> None:
        path, version = path_of(given, "input"), None
        if "://" in given and not path.exists():
            raise UserError(f"input {given} is a URL, expected a local file or folder: download it first")
        if not os.path.lexists(path) and (match := re.fullmatch(r"(.+)@(\d+)", given)):
            path, version = path_of(match[1], "input"), int(match[2])
            if not is_table(path):
                raise UserError(f"input {given} does not exist and {path} is no Delta table: check the path")
        self.refuse_part_of_table(path)
        if path.is_dir():
            _Folder(self, path).add(version)
        elif path.is_file():
            partitions = _above(path.parent)[1]
            self.add_file(path, partitions.get("source") or stem(path), partitions)
        else:
            raise UserError(
                f"input {given} {_why_no_file(path)}, expected a file or a folder of files ({EXPECTED}): check the path"
            )

    def refuse_part_of_table(self, path: Path) -> None:
        resolved = path.resolve().parents if path.exists() else ()
        for folder in {*_absolute(path).parents, *resolved} - self._no_tables:
            if is_table(folder):
                raise UserError(
                    f"input {path} lies in the Delta table {folder}, whose files may hold deleted rows: give {folder}, "
                    f"or {folder}@VERSION"
                )
            _refuse_other_table(folder)
            self._no_tables.add(folder)

    def add_file(self, path: Path, source: str, partitions: Partitions) -> None:
        if self.is_new(path, partitions):
            self.found.append(InputFile(str(path), source, partitions))

    def add_table(self, folder: Path, source: str, version: int | None) -> None:
        table = open_table(folder, version)
        if self.is_new(folder, table.version):
            tell(f"{folder} is a Delta table: its version {table.version} is read, {counted(len(table.files), 'file')}")
            self.found.append(InputFile(f"{folder}@{table.version}", source, table=table))


class _Folder:
    """A folder that was given, and what is left out of it."""

    def __init__(self, search: _Search, folder: Path) -> None:
        self.search, self.folder = search, folder
        base, self.partitions = _above(folder)
        self.source = _source_of(base)
        self.left_out: dict[str, list[str]] = {kind: [] for kind in ("other", "skipped", "hidden")}

    def add(self, version: int | None) -> None:
        before = len(self.search.found) + len(self.search.repeated)
        if version is None:
            self._walk()
        else:
            self.search.add_table(self.folder, self.source, version)
        other, skipped, hidden = self.left_out.values()
        told = f"{len(hidden):,} whose names begin with . or _ or end in .crc" if hidden else ""
        if other:
            raise UserError(
                f"folder {self.folder} holds data of formats that are not read: {first_of(other)}; expected "
                f"{EXPECTED}: unpack or convert them, move them away, or give the files that are to be read"
            )
        if len(self.search.found) + len(self.search.repeated) == before:
            others = " and ".join(filter(None, [f"{len(skipped):,} other files", told]))
            raise UserError(
                f"folder {self.folder} holds no data file ({others}), expected at least one that ends in "
                f"{' '.join(sorted(DATA_ENDINGS))}: give the right folder, or name a file itself if it ends otherwise"
            )
        if skipped:
            tell(f"skipped in {self.folder}, not data by their names: {first_of(skipped)}")
        if told:
            tell(f"skipped in {self.folder}: {told}")

    def _walk(self) -> None:
        pending = [(self.folder, self.partitions, "")]
        while pending:
            path, partitions, kind = pending.pop()
            if path.is_symlink():
                self.search.refuse_part_of_table(path)
            if path.suffix.lower() in UNFINISHED and path != self.folder:
                raise UserError(f"{path} is a download or a file that was not finished: finish it, or move it away")
            if path.is_dir():
                pending += reversed(list(self._entries(path, _with_partition(partitions, path))))
            elif not path.is_file():
                raise UserError(f"{path} {_why_no_file(path)}, expected files alone: mend it, or move it away")
            elif kind == "data":
                self.search.add_file(path, partitions.get("source") or self.source, partitions)
            else:
                self.left_out[kind].append(str(path))

    def _entries(self, folder: Path, partitions: Partitions) -> Iterator[tuple[Path, Partitions, str]]:
        """What is in a folder and not hidden, sorted, and what kind of file it is; none of a folder that is a table."""
        entries = sorted(folder.iterdir())
        if is_table(folder):
            return self.search.add_table(folder, self.source, None)
        _refuse_other_table(folder)
        if not self.search.is_new(folder, partitions):
            return None
        listed = files_of_data_set(folder)
        tell_missing_shards(folder, entries)
        for path in snapshot(folder) or entries:
            if path.name.startswith(".") or (path.name.startswith("_") and "=" not in path.name):
                self.left_out["hidden"].append(str(path))
            else:
                yield path, partitions, _kind(path, listed)
        return None


def _kind(path: Path, listed: Collection[str]) -> str:
    """Whether a file is data by its name, or by the list that its folder has; other data is not read."""
    ending, is_tar = path.suffix.lower(), Path(path.stem).suffix.lower() == ".tar"  # .tar.gz
    is_made_of_data = path.name in DESCRIBES_DATA or MADE_BY_MAP.fullmatch(path.name)
    if path.name in listed if listed else ending in DATA_ENDINGS and not is_made_of_data and not is_tar:
        return "data"
    if ending in OTHER_DATA or is_tar:
        return "other"
    return "hidden" if ending == ".crc" else "skipped"


def _refuse_other_table(folder: Path) -> None:
    for sign, name in OTHER_TABLES.items():
        if any(folder.glob(sign)):
            raise UserError(
                f"{folder} is {name}: its files one by one are not its rows, so it is not read; expected {EXPECTED}, "
                "or a Delta table: write its rows as Parquet with the program that made it"
            )


def _why_no_file(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"is a link to {path.readlink()}, which leads nowhere"
    return "is no regular file" if path.exists() else "does not exist"


def _absolute(path: Path) -> Path:
    """With the names that were given: links stay, and .. is taken away."""
    return Path(os.path.normpath(path.absolute()))


def _above(folder: Path) -> tuple[Path, Partitions]:
    """The folder above name=value folders, this one included, and the columns that they give."""
    base = _absolute(folder)
    chain: list[Path] = []
    while _partition(base):
        chain.insert(0, base)
        base = base.parent
    partitions: Partitions = {}
    for path in chain:
        partitions = _with_partition(partitions, path)
    return base, partitions


def _with_partition(partitions: Partitions, folder: Path) -> Partitions:
    if not (partition := _partition(folder)):
        return partitions
    name, value = partition
    if partitions.get(name, value) != value:
        raise UserError(f"{folder} says {name}={value} within {name}={partitions[name]}, expected one: rename a folder")
    return {**partitions, name: value}


def _partition(folder: Path) -> tuple[str, str | None] | None:
    """A folder's name as a column and its value, as Hive and Spark write them."""
    name, equals, value = folder.name.partition("=")
    if not name or not equals:
        return None
    try:
        return unquote(name, errors="strict"), None if value in ("", NULL) else unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise UserError(f"{folder}: the escapes in its name are not UTF-8, expected name=value: rename it") from error


def _source_of(folder: Path) -> str:
    """The folder's name, or of a download from a hub (datasets--OWNER--NAME/snapshots/REVISION) the data set's."""
    for path in (folder, *folder.parents):
        if path.name.startswith("datasets--"):
            return path.name.rpartition("--")[2]
    return stem(folder)
