"""What keeps old versions: tags, trained models, trainings under way, and the newest versions themselves.

    pins(tables) -> [Pin("newest", ...), Pin("tag golden", ...), Pin("model small@...", ...), Pin("training big", ...)]

Each keeps its versions and all that these were made from, with what a curation dropped: the same rule for all. A model
pins from its first claim on its name (identity.json) to its row in the models table, and by that row for good: its
folder may be published anywhere.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from pyarrow import fs

from pipelines.checkpoints.models import all_models, trained_from
from pipelines.checkpoints.run_folder import IDENTITY, RUN, RunFolder
from pipelines.curation.outcomes import dropped_by
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import Input
from pipelines.storage.tags import all_tags
from pipelines.storage.vacuum import Pin


def pins(tables: Tables) -> list[Pin]:
    """All of a root's. One whose table was made anew keeps nothing, and is said."""
    return [Pin(name, tuple(_with_origins(versions))) for name, versions in _named(tables)]


def _named(tables: Tables) -> Iterator[tuple[str, list[TableVersion]]]:
    """Who pins, and what by itself."""
    yield "newest", _newest(tables)
    for tag in all_tags(tables):
        yield f"tag {tag.name}", list(_recorded(tables, f"tag {tag.name}", [tag.version]))
    rows = all_models(tables).to_dicts()
    for row in rows:
        name = f"model {row['model_id']}"
        try:
            yield name, trained_from(tables, row)
        except UserError as error:
            tell(f"{name} keeps nothing: {error}")
    done = {row["model_id"] for row in rows}
    for folder in run_folders(tables):
        run, identity = folder.read(RUN) or {}, folder.read(IDENTITY)
        if identity and f"{folder.name}@{run.get('weights_sha256', '')[:12]}" not in done:
            name = f"training {folder.name}"
            yield name, list(_recorded(tables, name, begun_on(identity)))


def _newest(tables: Tables) -> list[TableVersion]:
    """The newest of each table that a stage takes."""
    newest = list[TableVersion]()
    for name in tables.names():
        with suppress(UserError):  # none can be used: vacuum keeps what is there of it
            newest += [version for version in [tables.newest(name)] if version]
    return newest


def run_folders(tables: Tables) -> Iterator[RunFolder]:
    """Those of all models, trained or begun."""
    filesystem, root = tables.filesystem()
    for info in filesystem.get_file_info(fs.FileSelector(f"{root}/models", allow_not_found=True)):
        with suppress(UserError):  # no name that a model can have
            if info.type == fs.FileType.Directory:
                yield RunFolder(tables, info.base_name)


def begun_on(identity: dict[str, Any]) -> list[Input]:
    """What a training said it reads, when it claimed its name."""
    stages = [stage["curated"] for stage in identity.get("stages", ())]
    return [Input(**one) for one in (identity["curated"], *stages, identity.get("vectors")) if one]


def _recorded(tables: Tables, name: str, inputs: Iterable[Input]) -> Iterator[TableVersion]:
    for one in inputs:
        try:
            yield tables.recorded(one)
        except UserError as error:
            tell(f"{name} keeps nothing of {one.version}: {error}")


def _with_origins(versions: Iterable[TableVersion]) -> Iterator[TableVersion]:
    """The versions, then what they were made from, each once."""
    waiting, found = list(versions), set[str]()
    while waiting:
        version = waiting.pop()
        if str(version) in found:
            continue
        found.add(str(version))
        yield version
        with suppress(UserError):  # the log has lost what it was made from, or that table was made anew
            waiting += [version.tables.recorded(one) for one in version.origin().commit.inputs]
        if version.name == "curated_triplets" and (dropped := dropped_by(version)):
            waiting.append(dropped)
