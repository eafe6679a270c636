"""Can this process work in a root? Each library that reads or writes there does so once, in a folder that goes again.

    probe(tables)  ->  ("pyarrow writes, reads and deletes", None), ("obstore ...", "AccessDenied: ..."), ...

Each finds endpoint, region and credentials in its own way: one of them can fail where the others work.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import deltalake
import obstore
import polars as pl
import pyarrow as pa
from deltalake.exceptions import CommitFailedError
from obstore.exceptions import AlreadyExistsError
from pyarrow import fs

from pipelines.stage.errors import describe
from pipelines.storage.outages import HASTE_S
from pipelines.storage.tables import Tables

CONTENT = b"check"
RIVALS = 8


def probe(tables: Tables) -> Iterator[tuple[str, str | None]]:
    """What was tried, and why it failed; None where it did not. What is written is removed, as far as it can be."""
    root = Tables.at(tables.path(f"_check_{uuid.uuid4().hex[:12]}"))
    at = replace(root, outage_s=HASTE_S)
    for told, run in PROBES.items():
        try:
            run(at)
        except (Exception, pa.ArrowException) as error:  # whatever a library raises is what is asked for
            yield told, describe(error)
        else:
            yield told, None
    filesystem, path = at.filesystem()
    try:
        if filesystem.get_file_info(path).type != fs.FileType.NotFound:
            filesystem.delete_dir(path)
    except OSError as error:
        yield f"{at.uri} is removed again", describe(error)


def _pyarrow(at: Tables) -> None:
    filesystem, path = at.filesystem()
    filesystem.create_dir(path, recursive=True)
    with filesystem.open_output_stream(f"{path}/pyarrow") as file:
        file.write(CONTENT)
    with filesystem.open_input_stream(f"{path}/pyarrow") as file:
        _expect(file.read() == CONTENT, "what was read is not what was written")
    filesystem.delete_file(f"{path}/pyarrow")


def _obstore(at: Tables) -> None:
    store = at.store()
    obstore.put(store, "obstore", CONTENT, mode="create")
    _expect(bytes(obstore.get(store, "obstore").bytes()) == CONTENT, "what was read is not what was written")
    try:
        obstore.put(store, "obstore", CONTENT, mode="create")
    except AlreadyExistsError:
        return obstore.delete(store, "obstore")
    raise OSError("a file was put where there was one, though only a new one was asked for: no conditional writes")


def _deltalake(at: Tables) -> None:
    """Some commits of the same version at once: each has looked for others' before it writes, so only a race tells."""
    url, options = at.url("delta"), at.storage_options
    deltalake.write_deltalake(url, pa.table({"row": [1, 2]}), storage_options=options)
    rivals = [deltalake.DeltaTable(url, storage_options=options) for _ in range(RIVALS)]
    ready = threading.Barrier(RIVALS)
    once = deltalake.CommitProperties(max_commit_retries=0)

    def wins(table: deltalake.DeltaTable) -> bool:
        ready.wait()
        try:
            table.create_write_transaction([], "append", table.schema(), commit_properties=once)
        except CommitFailedError:
            return False
        return True

    with ThreadPoolExecutor(RIVALS) as pool:
        won = sum(pool.map(wins, rivals))
    _expect(won == 1, f"of {RIVALS} commits of one version {won} were taken, expected 1: no conditional writes")


def _polars(at: Tables) -> None:
    found = pl.scan_delta(at.url("delta"), storage_options=at.polars_options).collect().height
    _expect(found == 2, f"found {found} rows, expected 2")


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise OSError(otherwise)


PROBES: dict[str, Callable[[Tables], None]] = {
    "pyarrow writes, reads and deletes": _pyarrow,
    "obstore writes only where nothing is": _obstore,
    "deltalake takes one of several commits at once": _deltalake,
    "polars reads a table": _polars,
}
