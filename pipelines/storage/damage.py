"""Which data file is damaged? Polars says what is wrong with a file's bytes, and not which file it is.

    is_damage(error)  -->  whether a reader stumbled over a file's bytes
    find_damage(tables), why_damaged_inside(version)  -->  what is wrong with the first such file, or None

`readability.py` looks at names, sizes and ends, which costs nothing; here files are read to their ends, in batches.
"""

import re

import polars as pl

from pipelines.stage.errors import UserError, describe
from pipelines.storage.readability import OUTSIDE
from pipelines.storage.tables import Tables
from pipelines.storage.versions import TableVersion

DAMAGE = re.compile(
    "parquet: File out of specification|parquet error:|out-of-spec:|unable to decode the encoded schema stored in ARROW"
)


def is_damage(error: BaseException) -> bool:
    """Whether it may be one of a file's bytes. Polars panics over some that another check would have found."""
    return isinstance(error, pl.exceptions.PanicException) or (
        isinstance(error, pl.exceptions.PolarsError) and bool(DAMAGE.match(str(error)))
    )


def why_damaged_inside(version: TableVersion, but_not: set[str] | None = None) -> str | None:
    """As `TableVersion.unusable` says it; None where every file can be read to its end.

    Args:
        but_not: paths that need not be read, to which those that were read are added.
    """
    known = set[str]() if but_not is None else but_not
    for path in [file["path"] for file in version.files() if file["path"] not in known]:
        try:
            for _ in version.scan_files([path]).collect_batches(maintain_order=False):
                pass
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            if not is_damage(error):
                raise
            file = path if OUTSIDE.match(path) else version.tables.path(version.name, path)
            return f"has a damaged data file, {file} ({describe(error)}); bring it back from a copy"
        known.add(path)
    return None


def undamaged(version: TableVersion | None) -> TableVersion | None:
    """The version. Raises UserError where one of its files cannot be read to its end."""
    if version is not None and (why := why_damaged_inside(version)):
        raise UserError(f"{version} {why}")
    return version


def find_damage(tables: Tables) -> str | None:
    """Which version has a damaged file, its newest looked at first; None where all that is there can be read."""
    for name in tables.names():
        newest, known = tables.latest(name), set[str]()
        for version in newest.history() if newest else ():
            if version.unreadable is None and (why := why_damaged_inside(version, known)):
                return f"{version} {why}"
    return None
