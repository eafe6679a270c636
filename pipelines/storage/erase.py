"""Rows out of a table and out of each of its versions: the files that hold them are written anew, and deleted.

    files with such rows --written without them--> new files --erased/files/TABLE.json, one commit--> the old ones go

In this order, so a kill at any point leaves each version readable, and the same call goes on.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple
from uuid import uuid4

import polars as pl
import pyarrow.parquet as pq
from pyarrow import fs

from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage.commits import Commit
from pipelines.storage.erased import Replaced, Replacement, replaced_files, steps_from, write_replaced
from pipelines.storage.exchange import exchange
from pipelines.storage.tables import Tables
from pipelines.storage.vacuum import data_files
from pipelines.storage.writing import DataFile, VersionMoved, file_statistics
from schemas import TABLES


class Gone(NamedTuple):
    """Which rows of a table go; with `blank` they stay, and those columns of theirs become null."""

    rows: pl.Expr
    blank: tuple[str, ...] = ()


def check_erasable(tables: Tables, names: list[str]) -> None:
    """Refuse, before anything is erased, tables whose files cannot be exchanged; `delta.appendOnly` is lifted.

    Raises:
        UserError: what another program did to a table stands against it.
    """
    for name in names:
        if is_append_only(tables, name):
            tables.delta(name).alter.set_table_properties({"delta.appendOnly": "false"})
            tell(f"erase: {tables.path(name)} was for additions alone (delta.appendOnly); it is not any more")
        tables.check_writable(name)
        newest = tables.latest(name)
        if newest and newest.rows_kept():
            raise UserError(
                f"{newest} has deletion vectors by another program; expected none: purge them there "
                "(REORG TABLE ... APPLY (PURGE) in Spark), then erase"
            )


def is_append_only(tables: Tables, name: str) -> bool:
    return bool(tables.delta(name).metadata().configuration.get("delta.appendOnly") == "true")


def erase_rows(tables: Tables, name: str, gone: Gone, erasure: str, record: Commit) -> None:
    """Erase rows from all versions of a table; what an earlier call that was killed has done of it is not done again.

    Args:
        erasure: the name under which the rows are counted.
        record: of the commit, where the newest version had some of them.
    """
    replaced = replaced_files(tables, name)
    new = {path: _written_anew(tables, name, path, gone, erasure) for path in _holding(tables, name, gone, replaced)}
    if new:
        replaced |= new
        write_replaced(tables, name, replaced)
    _put_in_place(tables, name, replaced, record)
    filesystem, root = tables.filesystem()
    for path in data_files(tables, name).keys() & replaced.keys():
        filesystem.delete_file(f"{root}/{name}/{path}")


def count_rows(tables: Tables, name: str, gone: Gone) -> int:
    """How many rows of the newest version would be erased."""
    newest = tables.latest(name)
    return int(newest.scan().filter(gone.rows).select(pl.len()).collect().item()) if newest else 0


def _holding(tables: Tables, name: str, gone: Gone, replaced: Replaced) -> Iterator[str]:
    """The files under a table, of whatever version or none, that hold such rows; what a crash left half is deleted."""
    for path in sorted(data_files(tables, name).keys() - replaced.keys()):
        rows = pl.scan_parquet(tables.path(name, path), glob=False, storage_options=tables.polars_options)
        try:
            if rows.filter(gone.rows).select(pl.len()).collect().item():
                yield path
        except pl.exceptions.ComputeError as error:
            if _is_logged(tables, name, path):
                raise UserError(
                    f"{tables.path(name, path)} is damaged, so whose rows it holds cannot be told; bring it back from "
                    "a copy, or delete it, and erase again"
                ) from error
            filesystem, root = tables.filesystem()
            filesystem.delete_file(f"{root}/{name}/{path}")


def _is_logged(tables: Tables, name: str, path: str) -> bool:
    """Whether any entry of the log names a file."""
    filesystem, root = tables.filesystem()
    for entry in filesystem.get_file_info(fs.FileSelector(f"{root}/{name}/_delta_log")):
        if entry.extension == "json":
            with filesystem.open_input_file(entry.path) as file:
                if path.encode() in file.read():
                    return True
    return False


def _written_anew(tables: Tables, name: str, path: str, gone: Gone, erasure: str) -> Replacement:
    """A file's other rows, in order, as another file with the same columns."""
    filesystem, root = tables.filesystem()
    schema = pq.read_schema(f"{root}/{name}/{path}", filesystem=filesystem)
    rows = pl.DataFrame(pq.read_table(f"{root}/{name}/{path}", filesystem=filesystem, partitioning=None))
    is_gone = rows.select(gone.rows.fill_null(False)).to_series()
    if gone.blank:
        blank = [one for one in gone.blank if one in rows.columns]  # older files lack what is newer
        left = rows.with_columns(pl.when(is_gone).then(None).otherwise(pl.col(one)).alias(one) for one in blank)
    else:
        left = rows.filter(~is_gone)
    told = {"rows": int(is_gone.sum()), "erasure": erasure, "num_records": len(left)}
    if left.is_empty():
        return Replacement(**told)
    by = f"{uuid4().hex}.parquet"
    pq.write_table(left.to_arrow().cast(schema), f"{root}/{name}/{by}", filesystem=filesystem, compression="zstd")
    size = filesystem.get_file_info(f"{root}/{name}/{by}").size
    return Replacement(by=by, size_bytes=size, statistics=file_statistics(TABLES[name], left), **told)


def _put_in_place(tables: Tables, name: str, replaced: Replaced, record: Commit) -> None:
    """Commit the new files into the newest version, unless it has them."""
    while newest := tables.latest(name):
        old = [file["path"] for file in newest.logged_files() if steps_from(file["path"], replaced)]
        if not old:
            return
        last = [steps_from(path, replaced)[-1] for path in old]
        new = [DataFile(one.by, one.size_bytes, one.num_records, one.statistics) for one in last if one.by]
        with suppress(VersionMoved):
            exchange(newest, old, new, record, changes_data=True)
