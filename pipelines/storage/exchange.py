"""Files of a version in the place of others, by one commit: what compaction and erasure need.

delta-rs 1.6.6 has no such commit. Its OPTIMIZE is one, but where two run at once both are committed, and each row then
stands there twice (tried). So the log entry is written here, put only where there is none, as every commit is.
"""

import json
import time
from collections.abc import Sequence

import obstore
from obstore.exceptions import AlreadyExistsError

from pipelines.storage.commits import Commit
from pipelines.storage.versions import TableVersion
from pipelines.storage.writing import DataFile, VersionMoved, standing


def exchange(
    newest: TableVersion, old: Sequence[str], new: Sequence[DataFile], record: Commit, *, changes_data: bool
) -> TableVersion:
    """The version after the newest: without the files at the `old` paths, as its log has them, and with the new ones.

    Args:
        changes_data: what Delta's `dataChange` says of it to other programs.
    Raises:
        VersionMoved: another commit was faster; nothing was committed.
    """
    now, told = int(time.time() * 1000), {"dataChange": changes_data}
    commit = {"timestamp": now, "operation": record.stage.upper(), "operationParameters": {}}
    removed = [{"remove": {"path": path, "deletionTimestamp": now, **told}} for path in old]
    added = [
        {
            "add": {
                "path": file.path,
                "partitionValues": {},
                "size": file.size_bytes,
                "modificationTime": now,
                "stats": file.statistics,
                **told,
            }
        }
        for file in new
    ]
    lines = [json.dumps(action) for action in ({"commitInfo": commit | record.custom_metadata()}, *removed, *added)]
    entry, log = f"{newest.version + 1:020}.json", newest.tables.store(newest.name, "_delta_log")
    try:
        obstore.put(log, entry, "".join(f"{line}\n" for line in lines).encode(), mode="create")
    except AlreadyExistsError as error:
        if stands := standing(newest, record):
            return stands
        raise VersionMoved(f"{newest} is not the newest version any more") from error
    return TableVersion(newest.tables, newest.name, newest.version + 1)
