"""The training stages of one model in order: what each trains on, and how one's student becomes the next one's start.

    curated@v, [[distill.stages]]      --stages_of-->  Stage, Stage, ...
    its last checkpoint                --hand_on-->    2/untrained, 2/carried, 2/start.json (last: all is there)

Stage 1 works in the work folder itself, as the only stage of a model does; each later one in a folder of its number
there. `start.json` has what all stages before have told, so that none of them is run again.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pyarrow import fs

from pipelines.checkpoints.run_folder import CARRIED, CHECKPOINTS, MODEL, START, STATE, UNTRAINED, Json
from pipelines.stage.errors import UserError
from pipelines.storage import Tables, TableVersion
from pipelines.students.config import DistillConfig
from pipelines.students.place import ALONE, Place


class Stage(NamedTuple):
    """One training: its data, and its config as if it were the model's only one."""

    place: Place
    curated: TableVersion
    vectors: TableVersion | None
    config: DistillConfig

    @contextmanager
    def named(self) -> Iterator[None]:
        """A refusal says which of several stages it is of."""
        try:
            yield
        except UserError as error:
            raise error if self.place.of == 1 else UserError(f"{self.place}: {error}") from error


def stages_of(curated: TableVersion, config: DistillConfig, vectors: TableVersion | None) -> list[Stage]:
    """All stages of a training on `curated`, at least one; each has the vectors only if it learns from them.

    Raises:
        UserError: a stage names a version that there is not.
    """
    if not config.stages:
        return [Stage(ALONE, curated, vectors, config)]
    stages = []
    for number, (given, whole) in enumerate(zip(config.stages, config.training_stages(), strict=True), start=1):
        stage = Stage(Place(given.name, number, len(config.stages)), curated, vectors, whole)
        if given.curated_version is not None:
            with stage.named():
                version = curated.tables.parse(f"{curated.name}@{given.curated_version}")
            stage = stage._replace(curated=version)
        stages.append(stage if whole.weights_on_teacher_vectors() else stage._replace(vectors=None))
    return stages


def main_version(curated: TableVersion, config: DistillConfig) -> TableVersion:
    """The version that a model of several is named after, and is evaluated on: `curated`, if some stage takes it.

    Else the last stage's: another newest version makes no other run of one whose stages name all of theirs.
    """
    numbers = [stage.curated_version for stage in config.stages]
    return curated if not numbers or None in numbers else stages_of(curated, config, None)[-1].curated


def curated_versions(stages: Sequence[Stage]) -> list[TableVersion]:
    """The versions that the stages train on, each once."""
    return list({str(stage.curated): stage.curated for stage in stages}.values())


def work_of(kept: Tables, number: int) -> Tables:
    """The work folder of a stage."""
    return kept if number == 1 else Tables(f"{kept.uri}/{number}")


def told_before(kept: Tables, stages: Sequence[Stage]) -> list[Json]:
    """What each stage that has finished in this work folder told of itself: the start of the one after it is whole."""
    for number in range(len(stages), 1, -1):
        filesystem, path = work_of(kept, number).filesystem()
        if filesystem.get_file_info(f"{path}/{START}").type == fs.FileType.File:
            with filesystem.open_input_file(f"{path}/{START}") as file:
                told: list[Json] = json.loads(file.read())
            return told
    return []


def hand_on(checkpoint: Path, kept: Tables, told: Sequence[Json]) -> None:
    """Make what a stage has trained the start of the next one: whole as soon as its last file is there.

    Args:
        checkpoint: the stage's last: its model becomes the next one's untrained student; what sinks and objective keep
            beside it is carried on; the optimizer's state is not.
        told: what each stage up to this one has told of itself.
    """
    filesystem, path = work_of(kept, len(told) + 1).filesystem()
    filesystem.delete_dir_contents(path, missing_dir_ok=True)  # of a copy that was interrupted
    filesystem.create_dir(f"{path}/{CARRIED}", recursive=True)
    for entry in sorted(checkpoint.iterdir()):
        if entry.name != STATE:
            target = UNTRAINED if entry.name == MODEL else f"{CARRIED}/{entry.name}"
            if entry.is_dir():
                filesystem.create_dir(f"{path}/{target}", recursive=True)
            fs.copy_files(str(entry), f"{path}/{target}", destination_filesystem=filesystem)
    with filesystem.open_output_stream(f"{path}/{START}.unfinished") as file:
        file.write(json.dumps(list(told), indent=1).encode())
    filesystem.move(f"{path}/{START}.unfinished", f"{path}/{START}")


def forget(kept: Tables, number: int) -> None:
    """Remove the work of a stage whose student was handed on."""
    filesystem, path = work_of(kept, number).filesystem()
    for found in filesystem.get_file_info([f"{path}/{name}" for name in (CHECKPOINTS, UNTRAINED, CARRIED)]):
        if found.type == fs.FileType.Directory:
            filesystem.delete_dir(found.path)


def told_of_all(stages: Sequence[Stage], told: Sequence[Json]) -> Json:
    """What run.json says of several stages: steps and seconds add up, the training data stands by name, and each has
    its own data, config, figures and the weights that came out of it."""
    each = [
        {
            "name": stage.place.name,
            "curated": stage.curated.identity(),
            "config": stage.config.identity(),
            **one,
        }
        for stage, one in zip(stages, told, strict=True)
    ]
    return {
        **told[-1],
        "steps": sum(one["steps"] for one in told),
        "seconds": sum(one["seconds"] for one in told),
        "training_data": {one["name"]: one["training_data"] for one in each},
        "stages": each,
    }
