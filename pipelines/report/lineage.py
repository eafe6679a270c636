"""Where rows, weights and figures come from: files, versions and models, each with the command that prints it.

    Subject  --lineage-->  nodes (file, table version, model), edges

From the commits alone, as `history` has them. A version that stands below several others is there once.
"""

from pathlib import PurePosixPath
from typing import NamedTuple

from pipelines.inspection.graph import files_of, made_from, parents, still_there
from pipelines.report.subject import Subject
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import EvaluationResult, Input, TrainingResult

MOST_NODES = 24
MOST_WALKED = 200  # versions whose commits are read: a table may have very many
MOST_FILES = 8
MOST_EVALUATIONS = 6


class Node(NamedTuple):
    """A file, a version or a model; those that it was made from stand above it."""

    id: str  # of a version or model its name, by which the page links to its command
    kind: str  # file, version or model
    label: str
    command: str  # that prints it; empty for a file
    said: str  # by whom it was made, of what


class Lineage(NamedTuple):
    """Nodes in the order in which they were made, inputs first."""

    nodes: list[Node]
    edges: list[tuple[str, str]]  # (made from, made)
    left_out: int  # files and versions beyond MOST_FILES, MOST_NODES and MOST_EVALUATIONS
    is_whole: bool  # whether nothing stands behind the MOST_WALKED versions that were looked at


def lineage(subject: Subject) -> Lineage:
    """Of the curated version, what it dropped, what it is compared with, the models, and what measured them."""
    versions: dict[str, TableVersion] = {}
    edges: list[tuple[str, str]] = []
    starts = [one for one in (subject.curated, subject.dropped, subject.before) if one]
    models = [(row, _trained_on(subject, row)) for row in subject.models]
    waiting = [*starts, *(version for _, inputs in models for version in inputs)]
    while waiting and len(versions) < MOST_WALKED:
        version = waiting.pop(0)
        if str(version) not in versions:
            versions[str(version)] = version
            for parent in _parents(version):
                edges.append((str(parent), str(version)))
                waiting.append(parent)
    shown = _inputs_first(versions, [edge for edge in edges if edge[0] in versions])
    left_out = len(shown[:-MOST_NODES])
    files, more_files = _files([versions[name] for name in shown[-MOST_NODES:]])
    nodes = [Node(f"file {number}", "file", PurePosixPath(path).name, "", path) for number, path in enumerate(files)]
    edges += [(f"file {number}", name) for number, names in enumerate(files.values()) for name in names]
    nodes += [_version_node(subject, versions[name]) for name in shown[-MOST_NODES:]]
    made_in = _versions_of_models(subject.tables) if models else {}
    for row, inputs in models:
        said = f"distill: {row['steps']:,} steps, weights sha256 {row['weights_sha256'][:12]}"
        made = made_in.get(row["model_id"])
        command = subject.command(f"history {made}" if made else "models")
        nodes.append(Node(row["model_id"], "model", row["model_id"], command, said))
        edges += [(str(version), row["model_id"]) for version in inputs]
    evaluations = _evaluations_of(subject)
    for version, model_ids in evaluations[-MOST_EVALUATIONS:]:
        nodes.append(_version_node(subject, version))
        edges += [(origin, str(version)) for origin in [*model_ids, *made_from(version)]]
    left_out += more_files + len(evaluations[:-MOST_EVALUATIONS])
    known = {node.id for node in nodes}
    return Lineage(nodes, [edge for edge in edges if known.issuperset(edge)], left_out, not waiting)


def _version_node(subject: Subject, version: TableVersion) -> Node:
    commit = version.commit
    said = f"{commit.stage or commit.operation or 'unknown'}, config {commit.config_fingerprint or 'not known'}"
    return Node(str(version), "version", str(version), subject.command(f"history {version}"), said)


def _evaluations_of(subject: Subject) -> list[tuple[TableVersion, list[str]]]:
    """The versions in which the page's models were measured last on each data set, oldest first, and which models."""
    newest, names = subject.evaluations, [row["model_id"] for row in subject.models]
    known, found = set[tuple[str, str]](), list[tuple[TableVersion, list[str]]]()
    for version, result in newest.results(EvaluationResult) if newest else ():
        measured = {(name, data_set) for name in names if name in result.systems for data_set in result.sizes}
        if new := measured - known:
            known |= new
            found.append((version, sorted({name for name, _ in new})))
    return found[::-1]


def _versions_of_models(tables: Tables) -> dict[str, TableVersion]:
    """model_id -> the newest version of the models table that a training of it wrote."""
    newest = tables.latest("models")
    trained = list(newest.results(TrainingResult)) if newest else []
    return {result.model: version for version, result in reversed(trained)}


def _trained_on(subject: Subject, row: dict[str, object]) -> list[TableVersion]:
    names = [str(row[name]) for name in ("curated_version", "vectors_version") if row[name]]
    found = (still_there(subject.curated.tables, Input(version=name)) for name in names)
    return [version for version in found if isinstance(version, TableVersion)]


def _parents(version: TableVersion) -> list[TableVersion]:
    return [parent for _, parent in parents(version) if isinstance(parent, TableVersion)]


def _inputs_first(versions: dict[str, TableVersion], edges: list[tuple[str, str]]) -> list[str]:
    """The names so that each stands below what it was made from."""
    sources: dict[str, set[str]] = {name: set() for name in versions}
    for parent, made in edges:
        sources[made].add(parent)
    ordered: list[str] = []
    while left := [name for name in versions if name not in ordered]:
        ordered += [name for name in left if sources[name] <= set(ordered)] or left
    return ordered


def _files(versions: list[TableVersion]) -> tuple[dict[str, list[str]], int]:
    """Path -> versions of the input files, and how many more there are."""
    read: dict[str, list[str]] = {}
    for version in versions:
        for file in files_of(version.commit):
            read.setdefault(file.path, []).append(str(version))
    return dict(list(read.items())[:MOST_FILES]), max(0, len(read) - MOST_FILES)
