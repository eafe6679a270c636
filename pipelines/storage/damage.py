"""Which data file is damaged? Polars says what is wrong with a file's bytes, and not which file it is.

    is_damage(error)  -->  whether a reader may have stumbled over a file's bytes
    find_damage(tables)  -->  what is wrong with the first damaged file of each table, or None

`readability.py` looks at names, sizes and ends, which costs nothing; here files are read to their ends. First by Arrow:
there are bytes over which Polars ends the process.
"""

import re
from collections.abc import Sequence
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.stage.errors import UserError, describe
from pipelines.storage.readability import OUTSIDE
from pipelines.storage.tables import Tables
from pipelines.storage.versions import TableVersion
from schemas import TABLES

DAMAGE = re.compile("parquet|out-of-spec|unable to decode the encoded schema|data type mismatch for column")
READING = (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError, ValueError)


def is_damage(error: BaseException) -> bool:
    """Whether it may be one of a file's bytes, or a panic of Polars, which may have any reason."""
    is_told = isinstance(error, pl.exceptions.PolarsError) and bool(DAMAGE.match(str(error)))
    return is_told or isinstance(error, pl.exceptions.PanicException)


def why_damaged_inside(version: TableVersion, but_not: set[str] | None = None) -> str | None:
    """As `TableVersion.unusable` says it; None where every file can be read to its end.

    Memory: the rows of a file.

    Args:
        but_not: paths that need not be read, to which those that were read are added.
    """
    known = set[str]() if but_not is None else but_not
    for path in [file["path"] for file in version.files() if file["path"] not in known]:
        try:
            _read(version, path)
        except PermissionError:
            raise
        except READING as error:
            file = path if OUTSIDE.match(path) else version.tables.path(version.name, path)
            return f"has a damaged data file, {file} ({describe(error)}); bring it back from a copy"
        known.add(path)
    return None


def _read(version: TableVersion, path: str) -> None:
    """To its end, by both readers."""
    if not OUTSIDE.match(path):
        filesystem, root = version.tables.filesystem()
        with filesystem.open_input_file(f"{root}/{version.name}/{unquote(path)}") as file:
            for _ in pq.ParquetFile(file).iter_batches():
                pass
    version.scan_files([path]).collect(engine="streaming")


def undamaged(version: TableVersion | None) -> TableVersion | None:
    """The version. Raises UserError where one of its files cannot be read to its end."""
    if version is not None and (why := why_damaged_inside(version)):
        raise UserError(f"{version} {why}")
    return version


def find_damage(tables: Tables, names: Sequence[str] | None = None) -> str | None:
    """The newest version that has a damaged file, of each table or of those `names`; None where all can be read.

    A table whose log cannot be read is passed over.
    """
    found = []
    for name in TABLES if names is None else names:
        try:
            found.append(_damage_of(tables, name))
        except (UserError, OSError):
            continue
    return "; ".join(one for one in found if one) or None


def _damage_of(tables: Tables, name: str) -> str | None:
    newest, known = tables.latest(name), set[str]()
    for version in newest.history() if newest else ():
        if version.unreadable is None and (why := why_damaged_inside(version, known)):
            return f"{version} {why}"
    return None
