"""The versions of a root as a graph: what made a version, and what was made from it, from the commits alone."""

from collections.abc import Iterator
from typing import Any

from pipelines.stage.errors import UserError
from pipelines.storage import Tables, TableVersion

Entry = tuple[int, str, dict[str, Any]]
"""Depth in the graph, the version, and what its commit says."""


def every_version(tables: Tables, name: str | None = None) -> Iterator[Entry]:
    """All versions of one table or of all, newest first."""
    names = tables.names() if name is None else [name]
    for table in names:
        newest = tables.latest(table)
        if newest is None:
            raise UserError(
                f"there is no table {table} under {tables.uri}; found {', '.join(tables.names()) or 'none'}"
            )
        for version, told in newest.history():
            yield 0, str(version), told


def upstream_of(version: TableVersion, depth: int = 0) -> Iterator[Entry]:
    """The version, then its inputs, and theirs."""
    told = version.metadata()
    yield depth, str(version), told
    for name in made_from(str(version), told):
        yield from upstream_of(version.tables.parse(name), depth + 1)


def made_from(version: str, told: dict[str, Any]) -> list[str]:
    """The versions a version came from: its inputs, and of triplets, which are added to, the version before."""
    name, _, number = version.partition("@")
    before = [f"{name}@{int(number) - 1}"] if name == "triplets" and int(number) else []
    return [*(entry["version"] for entry in told.get("inputs", ())), *before]


def downstream_of(version: TableVersion) -> Iterator[Entry]:
    """The version, then what was made from it, and from that; a version made from two of these stands twice."""
    children: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for _, name, told in every_version(version.tables):
        for parent in made_from(name, told):
            children.setdefault(parent, []).append((name, told))

    def below(name: str, depth: int) -> Iterator[Entry]:
        for made, told in sorted(children.get(name, ()), key=lambda child: child[0]):
            yield depth, made, told
            yield from below(made, depth + 1)

    yield 0, str(version), version.metadata()
    yield from below(str(version), 1)
