"""Show what made a version, or what was made from it, a line a version: as a tree on a terminal."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions
from pipelines.stage.errors import UserError
from pipelines.stage.printable import on_one_line
from pipelines.stage.terminal import can_print, cut, width_of, wrapped

if TYPE_CHECKING:
    from pipelines.inspection.graph import Entry
    from pipelines.storage.commits import Commit


def main(
    version: Annotated[str | None, Parameter(help="TABLE or TABLE@VERSION; all tables if not given")] = None,
    /,
    *,
    downstream: Annotated[bool, Parameter("--downstream", help="what was made from it, instead")] = False,
    in_full: Annotated[
        bool, Parameter("--all", help="config, code and Ray job of each as well, and every place where it stands")
    ] = False,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    import json

    from pipelines.inspection.graph import LINES_OF_A_TREE, downstream_of, every_version, upstream_of
    from pipelines.storage.tags import find_tag

    tables = root.open()
    is_one = version is not None and ("@" in version or find_tag(tables, version) is not None)
    if downstream and not is_one:
        raise UserError(f"--downstream of {version or 'all tables'}: expected one version, for example triplets@0")
    if version is None or not is_one:
        entries = every_version(tables, version)
    elif downstream:
        entries = downstream_of(tables.parse(version))
    else:
        entries = upstream_of(tables.parse(version))
    if not (in_full or as_json):
        entries = _each_once(entries)
    width = width_of(sys.stdout)
    if is_one and width and not as_json and can_print(sys.stdout, LINES_OF_A_TREE):
        return print(*(_tree_in_full if in_full else _tree)(list(entries), width), sep="\n")
    told = set[str]()
    for depth, made in entries:
        entry = {"depth": depth, "version": str(made), **made.commit.model_dump(mode="json")}
        said = "see above" if str(made) in told else _said(made.commit, in_full)
        line = json.dumps(entry) if as_json else f"{'  ' * depth}{made!s:<24} {said}"
        print(line if as_json or in_full or not width else cut(line, width))
        told.add(str(made))


def _each_once(entries: "Iterable[Entry]") -> "Iterator[Entry]":
    """Each version where it stands first: what else was made from it names it, or follows it in its table."""
    told = set[str]()
    for depth, made in entries:
        if str(made) not in told:
            told.add(str(made))
            yield depth, made


def _tree(entries: "Sequence[Entry]", width: int) -> Iterator[str]:
    """Each version at its place in the tree, and as much of what its commit says as fits its line."""
    from pipelines.inspection.graph import branches

    for (before, _), (_, made) in zip(branches([depth for depth, _ in entries]), entries, strict=True):
        yield cut(f"{before}{made}  {_said(made.commit, False)}", width)


def _tree_in_full(entries: "Sequence[Entry]", width: int) -> Iterator[str]:
    """Each version at its place in the tree, and below it what its commit says, wrapped to the terminal."""
    from pipelines.inspection.graph import branches

    told = set[str]()
    for (before, below), (_, made) in zip(branches([depth for depth, _ in entries]), entries, strict=True):
        if str(made) in told:
            yield cut(f"{before}{made}  see above", width)
            continue
        told.add(str(made))
        yield cut(f"{before}{made}", width)
        for line in wrapped(_said(made.commit, True), max(20, width - len(below))):
            yield cut(below + line, width)


def _said(commit: "Commit", in_full: bool) -> str:
    """The commit on one line; if not in full, what made the version from what, and why."""
    from pipelines.inspection.graph import files_of
    from pipelines.storage.commits import CurationResult

    if not commit.is_ours:
        return f"not written by this system: {commit.operation or 'an unknown operation'}"
    inputs = ", ".join(one.version for one in commit.inputs)
    files = ", ".join(file.path for file in files_of(commit))
    curation = commit.reports(CurationResult)
    sources = commit.code.commit[:12] or commit.code.sources_digest or "?"
    parts = [
        commit.stage,
        f"from {inputs or files}" if inputs or files else "",
        f"partial: {curation.part}" if curation and curation.part else "",
        f"config {commit.config_fingerprint}" if in_full else "",
        f"code {sources}{' (dirty)' if commit.code.is_dirty else ''}" if in_full else "",
        f"ray job {commit.ray_job}" if in_full and commit.ray_job else "",
        f"note: {commit.note}" if commit.note else "",
    ]
    return "; ".join(on_one_line(part) for part in parts if part)
