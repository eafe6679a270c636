"""The versions of a root as a graph: what made a version, and what was made from it, from the commits alone."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import Commit, GenerationResult, IngestedFile, Input, IntakeResult, ScoringResult
from schemas import TABLES

Entry = tuple[int, TableVersion]
"""Depth in the graph, and the version; what its commit says is `version.commit`."""


def every_version(tables: Tables, name: str | None = None) -> Iterator[Entry]:
    """All versions of one table or of all, newest first."""
    for table in tables.existing() if name is None else [name]:
        newest = tables.latest(table)
        if newest is None:
            raise UserError(f"there is no table {table} under {tables.uri}; found {', '.join(tables.existing())}")
        yield from ((0, version) for version in newest.history())


def upstream_of(version: TableVersion) -> Iterator[Entry]:
    """The version, then its inputs, and theirs; one that is not there any more is said."""
    return _walk(version, _parents)


def downstream_of(version: TableVersion) -> Iterator[Entry]:
    """The version, then what was made from it, and from that; made from two of these it stands below both.

    In the order of the flow, so that where each is told once a curation is told below the scores, not beside them.
    """
    order = list(TABLES)
    children: dict[str, list[TableVersion]] = {}
    for _, made in every_version(version.tables):
        for parent in made_from(made):
            children.setdefault(parent, []).append(made)
    for made_of_one in children.values():
        made_of_one.sort(key=lambda one: (order.index(one.name), one.version))
    return _walk(version, lambda parent: children.get(str(parent), ()))


def _walk(version: TableVersion, neighbours: Callable[[TableVersion], Iterable[TableVersion]]) -> Iterator[Entry]:
    """Depth first; what is below a version that stands in two places is walked at the first alone."""
    left, walked = [(0, version)], set[str]()
    while left:
        depth, found = left.pop()
        yield depth, found
        if str(found) not in walked:
            walked.add(str(found))
            left += reversed([(depth + 1, neighbour) for neighbour in neighbours(found)])


def _parents(version: TableVersion) -> Iterator[TableVersion]:
    """The versions that a version came from, as far as they can still be asked; the others are said."""
    for name, parent in parents(version):
        if isinstance(parent, UserError):
            tell(f"{version} was made from {name}: {parent}")
        else:
            yield parent


def parents(version: TableVersion) -> Iterator[tuple[str, TableVersion | UserError]]:
    """Each version that a version came from, by its name, or why it cannot be asked any more."""
    recorded = {one.version: one for one in version.commit.inputs}
    for name in made_from(version):
        yield name, still_there(version.tables, recorded.get(name, Input(version=name)))


def still_there(tables: Tables, read: Input) -> TableVersion | UserError:
    """A version whose commit can be asked, or why it cannot."""
    try:
        version = tables.recorded(read)
        version.commit  # noqa: B018  # raises where the log has lost it
    except UserError as error:
        return error
    return version


def made_from(version: TableVersion) -> list[str]:
    """The versions a version came from: its inputs, and the one before where it was added to or rearranged."""
    commit = version.commit
    is_on_top = version.name == "triplets" or commit.is_on_top
    before = [f"{version.name}@{version.version - 1}"] if is_on_top and version.version else []
    return [*(entry.version for entry in commit.inputs), *before]


def files_of(commit: Commit) -> Sequence[IngestedFile]:
    """The files that a commit's rows came from: of triplets, of passages or of plain texts."""
    intake = commit.reports(IntakeResult) or commit.reports(GenerationResult)
    scoring = commit.reports(ScoringResult)
    return intake.ingested_files if intake else scoring.texts if scoring else ()


LINES_OF_A_TREE = "├└─│"


def branches(depths: Sequence[int]) -> list[tuple[str, str]]:
    """The lines of a tree before each of its nodes, and before what is said below it, from depths in `_walk`'s order.

    [0, 1, 2, 1] -> ("", "│  "), ("├─ ", "│  │  "), ("│  └─ ", "│     "), ("└─ ", "   ")
    """
    drawn: list[tuple[str, str]] = []
    goes_on: dict[int, bool] = {}  # by depth: whether a node of it follows below the same parent
    for position in range(len(depths) - 1, -1, -1):
        depth = depths[position]
        has_child = position + 1 < len(depths) and depths[position + 1] > depth
        above = "".join("│  " if goes_on.get(level) else "   " for level in range(1, depth))
        before = above + (("├─ " if goes_on.get(depth) else "└─ ") if depth else "")
        below = above + (("│  " if goes_on.get(depth) else "   ") if depth else "") + ("│  " if has_child else "   ")
        drawn.append((before, below))
        goes_on = {level: True for level in goes_on if level < depth} | {depth: True}
    return drawn[::-1]
