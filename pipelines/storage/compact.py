"""Compaction: the rows of many small files in few, sorted by the id that readers look for. No row changes.

    triplets@7, 212 files  --compact-->  triplets@8, 3 files, the same rows

Small files alone are rewritten, into files with ranges of ids of their own, so that readers still skip them by their
statistics. One commit says of itself that it changes no rows (Delta's `dataChange: false`, stage `compact`): readers
look through it to the version that a stage wrote, whose number and identity stay. Others may add rows meanwhile. Old
files stay for the old versions, until a vacuum.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage.exchange import exchange
from pipelines.storage.lineage import Lineage
from pipelines.storage.ranges import bucket_ranges, count_buckets
from pipelines.storage.tables import Tables
from pipelines.storage.versions import TableVersion
from pipelines.storage.writing import DataFile, VersionMoved, file_statistics, remove_files
from schemas import TABLES

ROUNDS = 5
"""So often it begins again when another run replaced the files meanwhile that it read."""


class CompactConfig(Config):
    """What a small file is. Stored with the version."""

    target_mb: float = Field(64.0, gt=0)
    """The files to make, in megabytes (a million bytes); one of less than half of it is small."""


class Compaction(NamedTuple):
    """A table's version before and after: the same where there was nothing to merge."""

    before: TableVersion
    after: TableVersion


def compact(tables: Tables, names: list[str], config: CompactConfig) -> Iterator[Compaction]:
    """Merge the files of some tables, or of all, where two or more are small.

    Raises:
        UserError: a table is not there or cannot be rewritten (nothing is, then), or others replace its rows meanwhile.
    """
    names = names or tables.existing()
    for name in names:
        _check(tables, name)
    yield from (_compact(tables, name, config) for name in names)


def _compact(tables: Tables, name: str, config: CompactConfig) -> Compaction:
    for _ in range(ROUNDS):
        before = _check(tables, name)
        small = [file for file in before.files() if file["size_bytes"] < config.target_mb * 1e6 / 2]
        if len(small) < 2 or (before.commit.stage == "compact" and before.commit.config == config.model_dump()):
            return Compaction(before, before)
        paths = [file["path"] for file in small]
        merged = list(_merged(before, paths, int(config.target_mb * 1e6), sum(file["size_bytes"] for file in small)))
        if after := _put_in_place(before, paths, merged, config):
            return Compaction(before, after)
        remove_files(tables, TABLES[name], merged)
    raise UserError(f"the rows of {name} were replaced {ROUNDS} times while it was compacted; run it when that is done")


def _check(tables: Tables, name: str) -> TableVersion:
    """The newest version. Raises UserError when it cannot be read whole, deletion vectors included."""
    tables.check_writable(name)
    version = tables.latest(name)
    if version is None:
        raise UserError(f"there is no table {name} under {tables.uri}; found {', '.join(tables.existing())}")
    if version.unreadable:
        raise UserError(f"{version} {version.unreadable}: its rows cannot be put into other files; {version.way_out()}")
    if [file["path"] for file in version.files()] != [file["path"] for file in version.logged_files()]:
        raise UserError(
            f"an erasure of {name} was interrupted; run `python -m jobs erase` again, with the same ids, first"
        )
    if any(not all(kept) for _, kept in version.rows_kept()):
        raise UserError(
            f"{version} has deletion vectors by another program; expected none: purge them there "
            "(REORG TABLE ... APPLY (PURGE) in Spark), then compact"
        )
    return version


def _merged(before: TableVersion, paths: Sequence[str], target_bytes: int, num_bytes: int) -> Iterator[DataFile]:
    """The rows of some files in new ones of about that size, by id."""
    rows, table = before.scan_files(paths), TABLES[before.name]
    num_rows = int(rows.select(pl.len()).collect().item())
    per_file = max(1, num_rows * target_bytes // num_bytes)
    never_null = table.polars_schema().keys() - table.nullable_columns()
    by_id = [name for name in ("query_id", "text_id", "passage_id") if name in never_null]
    order = list(dict.fromkeys([*by_id, *table.key_columns()]))
    frames = (
        rows.collect().sort(order).iter_slices(per_file)
        if not by_id
        else (
            rows.filter(one.contains(by_id[0])).collect().sort(order)
            for one in bucket_ranges(count_buckets(rows, by_id[0]), per_file)
        )
    )
    schema, written = pa.schema(before.delta.schema().to_arrow()), 0
    for frame in frames:
        written += len(frame)
        yield _write(before, frame, schema)
    assert written == num_rows, f"{num_rows:,} rows of {before} became {written:,}"


def _write(before: TableVersion, frame: pl.DataFrame, schema: pa.Schema) -> DataFile:
    """One file with the columns that the table has, which may be older than today's schema."""
    filesystem, root = before.tables.filesystem()
    path = f"{uuid.uuid4().hex}.parquet"
    whole = f"{root}/{before.name}/{path}"
    pq.write_table(frame.to_arrow().cast(schema), whole, filesystem=filesystem, compression="zstd")
    size = filesystem.get_file_info(whole).size
    return DataFile(path, size, len(frame), file_statistics(TABLES[before.name], frame))


def _put_in_place(
    before: TableVersion, paths: Sequence[str], merged: Sequence[DataFile], config: CompactConfig
) -> TableVersion | None:
    """Commit on top of what others have added meanwhile; None where they took one of the files out."""
    record = Lineage("compact", [], config).commit(before.tables.invocation)
    while newest := before.tables.latest(before.name):
        if not {*paths} <= {file["path"] for file in newest.files()}:
            return None
        with suppress(VersionMoved):
            return exchange(newest, paths, merged, record, changes_data=False)
    return None
