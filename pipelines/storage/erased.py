"""What was erased, as every reader needs it: ids that may not come back, and files that stand in others' place.

    erased/ids/ERASURE.json    sha256 of each external id, and the ids of texts that nobody else's rows held
    erased/files/TABLE.json    path of a file that held such rows -> the file with the rows that were left

A version's log names the files that it was written with, for ever; `TableVersion.files` looks here for those that took
their place. So each version, pinned or not, stays readable without the rows, and keeps its number and its identity.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import obstore
from pyarrow import fs

from pipelines.storage.commits import Record
from schemas.quarantined_rows import MAX_RAW_BYTES

if TYPE_CHECKING:
    from pipelines.storage.tables import Tables

WORD, FIELD = re.compile(r"[\w.@-]+"), re.compile(r'[^,;\t"]+')
IDS, FILES = ("erased", "ids"), ("erased", "files")
Row = dict[str, Any]


class Replacement(Record):
    """What stands in the place of a file."""

    by: str = ""  # "": no row was left
    size_bytes: int = 0
    num_records: int = 0
    statistics: str = ""  # JSON, as in the log
    rows: int = 0  # how many were erased
    erasure: str = ""  # by which

    def as_file(self) -> Row:
        """As `TableVersion.files` has it."""
        told = {"min": "minValues", "max": "maxValues", "null_count": "nullCount"}
        statistics = json.loads(self.statistics or "{}")
        values = {f"{kind}.{column}": v for kind, key in told.items() for column, v in statistics.get(key, {}).items()}
        return {"path": self.by, "size_bytes": self.size_bytes, "num_records": self.num_records, **values}


Replaced = dict[str, Replacement]


class Memory(Record):
    """What one erasure remembers, all of it hashed."""

    external_ids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()  # text ids
    at: str = ""  # UTC


def hashed(external_id: str) -> str:
    """An external id as it is remembered."""
    return hashlib.sha256(f"external_id\0{external_id}".encode()).hexdigest()


def names_erased(raw: str, erased: frozenset[str]) -> bool:
    """Whether a row as it was found, in whatever format, may hold an erased id: a word, field or value of it does.

    Where it was cut, that cannot be told.
    """
    values = [*WORD.findall(raw), *FIELD.findall(raw)]
    with suppress(ValueError, RecursionError):
        found = json.loads(raw)
        values += map(str, found.values()) if isinstance(found, dict) else []
    return len(raw.encode()) > MAX_RAW_BYTES - 4 or any(hashed(value) in erased for value in values)


def erased_ids(tables: "Tables") -> frozenset[str]:
    """All external ids that were erased from a root, hashed."""
    filesystem, root = tables.filesystem()
    found = filesystem.get_file_info(fs.FileSelector(f"{root}/{'/'.join(IDS)}", allow_not_found=True))
    memories = (read_memory(tables, info.base_name.removesuffix(".json")) for info in found)
    return frozenset(one for memory in memories for one in memory.external_ids)


def read_memory(tables: "Tables", erasure: str) -> Memory:
    """What an erasure remembers; nothing when it has not begun."""
    content = _read(tables, *IDS, f"{erasure}.json")
    return Memory.model_validate_json(content) if content else Memory()


def write_memory(tables: "Tables", erasure: str, memory: Memory) -> None:
    obstore.put(tables.store(*IDS), f"{erasure}.json", memory.model_dump_json(indent=1).encode())


def replaced_files(tables: "Tables", name: str) -> Replaced:
    """Of one table, by their paths; empty where nothing was erased."""
    content = _read(tables, *FILES, f"{name}.json")
    return {path: Replacement(**one) for path, one in json.loads(content).items()} if content else {}


def write_replaced(tables: "Tables", name: str, replaced: Replaced) -> None:
    content = {path: one.model_dump() for path, one in replaced.items()}
    obstore.put(tables.store(*FILES), f"{name}.json", json.dumps(content, indent=1).encode())


def steps_from(path: str, replaced: Replaced) -> list[Replacement]:
    """What took a file's place, one after the other; nothing for a file that is as it was written."""
    steps = list[Replacement]()
    while step := replaced.get(path) or replaced.get(unquote(path)):
        steps.append(step)
        path = step.by
    return steps


def in_their_place(files: Iterable[Row], replaced: Replaced) -> list[Row]:
    """The files that hold the rows now, of those that a log names."""
    steps = ((file, steps_from(file["path"], replaced)) for file in files)
    return [found[-1].as_file() if found else file for file, found in steps if not found or found[-1].by]


def _read(tables: "Tables", *parts: str) -> bytes:
    """A file under the root; empty when it is not there."""
    filesystem, root = tables.filesystem()
    path = "/".join([root, *parts])
    if filesystem.get_file_info(path).type != fs.FileType.File:
        return b""
    with filesystem.open_input_file(path) as file:
        content: bytes = file.read()
    return content
