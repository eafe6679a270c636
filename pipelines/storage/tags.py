"""Tags: names of versions that must stay, each one small file under the root, made whole or not at all.

    tags/NAME.json   the version's identity (its number, the Delta table's id, the digest of its files), when and why

A tag is put only where there is none, so of two rivals one wins, on S3 as on a disk. It is never moved: it is removed
and made again. What it keeps, `vacuum` knows; a command takes its name in the place of TABLE@VERSION.
"""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError
from pyarrow import fs
from pydantic import ValidationError

from pipelines.stage.errors import UserError
from pipelines.storage.commits import Input, Record
from schemas import TABLES

if TYPE_CHECKING:
    from pipelines.storage.tables import Tables
    from pipelines.storage.versions import TableVersion

FOLDER, NAME = "tags", re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class Tag(Record):
    """One name, and the version that it stands for."""

    name: str
    version: Input
    at: str = ""  # UTC
    note: str = ""


def add_tag(version: "TableVersion", name: str, note: str = "") -> Tag:
    """Name a version; the same name for the same version again changes nothing.

    Raises:
        UserError: the name cannot be one or stands for another version, or this one cannot be used.
    """
    _check_name(name)
    tables = version.usable().tables
    tag = Tag(name=name, version=Input(**version.identity()), at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", note=note)
    try:
        obstore.put(tables.store(FOLDER), f"{name}.json", tag.model_dump_json(indent=1).encode(), mode="create")
    except AlreadyExistsError:
        found = find_tag(tables, name)
        if found and found.version == tag.version:
            return found
        there = found.version.version if found else "being made or removed by another process"
        raise UserError(
            f"the tag {name} is there: it is {there}, not {version}; choose another name, or remove it first: "
            f"`python -m jobs tag --remove {name}`"
        ) from None
    return tag


def remove_tag(tables: "Tables", name: str) -> Tag:
    """Take a tag away; the version stays until a vacuum. Returns what it was. Raises UserError when there is none."""
    tag = find_tag(tables, name)
    if tag is None:
        there = ", ".join(one.name for one in all_tags(tables)) or "no tag"
        raise UserError(f"there is no tag {name!r} under {tables.uri}; found {there}")
    obstore.delete(tables.store(FOLDER), f"{name}.json")
    return tag


def find_tag(tables: "Tables", name: str) -> Tag | None:
    """The tag of that name; None when there is none. Raises UserError when its file is damaged."""
    if not NAME.fullmatch(name):
        return None
    filesystem, root = tables.filesystem()
    path = f"{root}/{FOLDER}/{name}.json"
    if filesystem.get_file_info(path).type != fs.FileType.File:
        return None
    with filesystem.open_input_file(path) as file:
        content = file.read()
    try:
        return Tag.model_validate_json(content)
    except ValidationError:
        raise UserError(
            f"{tables.path(FOLDER)}/{name}.json is no tag any more; expected what `python -m jobs tag` wrote: bring "
            "it back from a copy, or delete it"
        ) from None


def all_tags(tables: "Tables") -> list[Tag]:
    """Every tag of a root, by name."""
    filesystem, root = tables.filesystem()
    found = filesystem.get_file_info(fs.FileSelector(f"{root}/{FOLDER}", allow_not_found=True))
    names = sorted(info.base_name.removesuffix(".json") for info in found if info.base_name.endswith(".json"))
    return [tag for name in names if (tag := find_tag(tables, name)) is not None]


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or name in TABLES:
        raise UserError(
            f"{name!r} can be no tag; expected at most 100 letters (a to z), digits, dots, dashes and underscores, "
            "not the name of a table"
        )
