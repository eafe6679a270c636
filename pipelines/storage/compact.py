"""Compaction: the rows of many small files in few, sorted by the id that readers look for. No row changes.

    triplets@7, 212 files  --compact-->  triplets@8, 3 files, the same rows

One commit that says of itself that it changes no rows (Delta's `dataChange: false`, stage `compact`): readers look
through it to the version that a stage wrote, whose number and identity stay. Others may add rows meanwhile: Delta
commits the compaction on top of theirs. Old files stay for the old versions, until a vacuum.
"""

from collections.abc import Iterator
from typing import NamedTuple

from deltalake import CommitProperties, WriterProperties
from deltalake.exceptions import CommitFailedError
from pydantic import Field

from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage.lineage import Lineage
from pipelines.storage.tables import Tables, TableVersion
from schemas import TABLES

ROUNDS = 5
"""So often it begins again when another run replaced the files meanwhile that it read."""


class CompactConfig(Config):
    """What a small file is. Stored with the version."""

    target_mb: float = Field(128.0, gt=0)
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
    names = names or tables.names()
    for name in names:
        _check(tables, name)
    yield from (_compact(tables, name, config) for name in names)


def _compact(tables: Tables, name: str, config: CompactConfig) -> Compaction:
    for _ in range(ROUNDS):
        before = _check(tables, name)
        if sum(file["size_bytes"] < config.target_mb * 1e6 / 2 for file in before.files()) < 2:
            return Compaction(before, before)
        try:
            return Compaction(before, _merged(before, config))
        except CommitFailedError:  # others took its files out meanwhile
            continue
    raise UserError(f"the rows of {name} were replaced {ROUNDS} times while it was compacted; run it when that is done")


def _check(tables: Tables, name: str) -> TableVersion:
    """The newest version. Raises UserError when it cannot be read whole, deletion vectors included."""
    tables.check_writable(name)
    version = tables.latest(name)
    if version is None:
        raise UserError(f"there is no table {name} under {tables.uri}; found {', '.join(tables.names()) or 'none'}")
    if version.unreadable:
        raise UserError(f"{version} {version.unreadable}: its rows cannot be put into other files; {version.way_out()}")
    if any(not all(kept) for _, kept in version.rows_kept()):
        raise UserError(
            f"{version} has deletion vectors by another program; expected none: purge them there "
            "(REORG TABLE ... APPLY (PURGE) in Spark), then compact"
        )
    return version


def _merged(before: TableVersion, config: CompactConfig) -> TableVersion:
    """All files anew, sorted, by one commit; on top of what others have added meanwhile."""
    tables, table = before.tables, TABLES[before.name]
    record = Lineage("compact", [], config).commit(tables.invocation)
    handle = tables.delta(before.name, before.version)
    handle.optimize.z_order(
        ["query_id" if "query_id" in table.polars_schema() else table.key_columns()[0]],
        target_size=int(config.target_mb * 1e6),
        writer_properties=WriterProperties(compression="ZSTD"),
        commit_properties=CommitProperties(custom_metadata=record.custom_metadata()),
    )
    return TableVersion(tables, before.name, handle.version())
