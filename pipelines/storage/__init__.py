"""Versioned tables: the only package that knows Delta and where tables lie."""

from pipelines.storage.lineage import Lineage
from pipelines.storage.ranges import QueryRange
from pipelines.storage.tables import Invocation, Tables
from pipelines.storage.versions import TableVersion
from pipelines.storage.writing import DataFile, VersionMoved, commit, delete_rows, new_version, replace_rows, write_file

__all__ = [
    "DataFile",
    "Invocation",
    "Lineage",
    "QueryRange",
    "TableVersion",
    "Tables",
    "VersionMoved",
    "commit",
    "delete_rows",
    "new_version",
    "replace_rows",
    "write_file",
]
