"""Distil a student from curated triplets: layer selection, token cache, Ray Train, one row of the models table.

    curated_triplets@v (+ teacher_vectors@v)  --train(config)-->  models/NAME/model, metrics.jsonl, run.json

A config may hold several training stages, each with its data: see pipelines/students/stages.py.

The same name, data and config again goes on where it stopped; a finished one is returned at once. A run's identity is
its data and what its config means, never the job that ran it or the version of the code that began it.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
from pyarrow import fs
from pydantic import ValidationError

from pipelines.checkpoints.name import name_of, weights_sha256
from pipelines.checkpoints.run_folder import (
    IDENTITY,
    METRICS,
    MODEL,
    OBJECTIVE,
    RUN,
    TENSORBOARD,
    UNTRAINED,
    WORK,
    Json,
    RunFolder,
)
from pipelines.inspection.reproduction import CHANGED, changed_since_begun
from pipelines.stage.errors import UserError, describe
from pipelines.stage.progress import tell
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.storage.commits import Input, TrainingResult
from pipelines.storage.fingerprint import fingerprint, fingerprint_of
from pipelines.storage.lineage import code
from pipelines.students.checks import check_training
from pipelines.students.config import DistillConfig
from pipelines.students.place import Place
from pipelines.students.source import Source, with_prompts
from pipelines.students.stages import (
    Stage,
    curated_versions,
    forget,
    hand_on,
    main_version,
    stages_of,
    told_before,
    told_of_all,
    work_of,
)
from schemas import Models


def run(
    curated: TableVersion,
    config: DistillConfig,
    *,
    name: str,
    connect: Callable[[], None],
    vectors: TableVersion | None = None,
) -> TableVersion:
    """Train the model NAME, or go on with it; returns the version of the models table that has it.

    Args:
        connect: connects to Ray (jobs/cluster.py); called once the data was found to serve.
    Raises:
        UserError: the name belongs to another run or is being trained now, or the data cannot serve the config.
    """
    given, curated = curated, main_version(curated, config)
    if given != curated:
        tell(f"distill: each stage names its version: {given} is not trained on")
    curated.usable().tables.check_writable("models")
    folder = RunFolder(curated.tables, name)
    vectors = _vectors_begun_with(folder, curated) or vectors if config.needs_vectors() else None
    config = with_prompts(config, (folder.read(RUN) or {}).get("config", {}))
    identity = _identity(curated, config, vectors)
    if _finished(folder) is None:
        check_training(curated, config, vectors)
    with folder.lock():
        _update_record(folder)
        folder.claim(identity)
        trained = _finished(folder)
        if trained is None:
            _check_source_of(folder, config)
            if recorded := folder.read(RUN):
                tell(f"distill: {folder.uri}/{MODEL} is gone: training {name} again")
                config = DistillConfig.of_run(recorded["config"], on_gpu=recorded["engine"]["device"] != "cpu")
            with tempfile.TemporaryDirectory() as scratch:
                output, work = Path(scratch), f"{folder.uri}/{WORK}"
                trained = train(curated, config, output, vectors=vectors, work=work, connect=connect, shown_in=folder)
                trained = {"name": name, "identity": fingerprint_of(identity), **trained}
                folder.publish(output, trained)
        else:
            tell(f"distill: {name} is already trained from this data and config")
            folder.forget_training()
        return _row_of(folder, trained, curated, config, vectors)


def train(
    curated: TableVersion,
    config: DistillConfig,
    output: Path,
    *,
    connect: Callable[[], None],
    vectors: TableVersion | None = None,
    work: str | None = None,
    shown_in: RunFolder | None = None,
) -> Json:
    """Train what `check_training` has passed into `output`: model/, metrics.jsonl, tensorboard/, run.json (returned).

    Args:
        output: a local folder.
        connect: connects to Ray.
        work: folder or S3 URI for the untrained student and checkpoints, seen by all workers, where a killed training
            goes on from, behind the stages that have finished; `output/work`, removed at the end, if not given.
        shown_in: whose name the config's sink is told, and where TensorBoard's files can be seen while it trains.
    """
    vectors = vectors if config.needs_vectors() else None
    kept, stages = Tables(work or str(output / "work")), stages_of(curated, config, vectors)
    told = told_before(kept, stages)
    beside = ThreadPoolExecutor(max_workers=1)  # Ray takes seconds to start, and so does the import of torch
    initialised = None if told else beside.submit(_initialise, config, kept)
    connect()
    if initialised:
        initialised.result()
    from pipelines.students.training.on_ray import settled  # torch: a finished model is found without

    config = settled(config, kept)
    changed, stages = changed_since_begun(kept), stages_of(curated, config, vectors)
    shown_as = (shown_in.name, shown_in.local(TENSORBOARD)) if shown_in else ("", None)
    told = _train_stages(stages, told, kept, output, shown_as)
    if work is None:
        shutil.rmtree(output / "work")
    trained = {
        "weights_sha256": told[-1]["weights_sha256"],
        **_identity(curated, config, vectors),
        "parents": [json.loads((output / MODEL / "config.json").read_text())["distilled_from"]],
        "code": code().model_dump(),
        **({CHANGED: changed} if changed else {}),
        **(told_of_all(stages, told) if config.stages else told[0]),
    }
    (output / RUN).write_text(json.dumps(trained, indent=1))
    return trained


def _train_stages(
    stages: Sequence[Stage], told: Sequence[Json], kept: Tables, output: Path, shown_as: tuple[str, Path | None]
) -> list[Json]:
    """Train the stages after those that have `told` of themselves; gives what all have told, and fetches the model."""
    from pipelines.students.training.on_ray import train_on_ray  # torch: a finished model is found without

    told = list(told)
    for stage in stages[len(told) :]:
        before = {f"{unit}_before": sum(one[unit] for one in told) for unit in ("steps", "seconds")}
        place = stage.place._replace(**before)
        if place.of > 1:
            start = f"the student after {place.steps_before:,} steps" if told else "the untrained student"
            tell(f"{place}: {start}, on {stage.curated}")
        result = train_on_ray(stage._replace(place=place), work_of(kept, place.number), shown_as=shown_as)
        with result.checkpoint.as_directory() as folder:
            told.append({"weights_sha256": weights_sha256(Path(folder, MODEL)), **result.return_value})
            if place.number < place.of:
                hand_on(Path(folder), kept, told)
        _tell_choice(place, result.return_value)
        if place.number < place.of:
            forget(kept, place.number)
    _fetch(result.checkpoint, output)
    return told


def _identity(curated: TableVersion, config: DistillConfig, vectors: TableVersion | None) -> Json:
    """What tells one run from another: its data and its config."""
    versions = [stage.curated for stage in stages_of(curated, config, vectors)]
    return {
        "curated": curated.identity(),
        "vectors": vectors.identity() if vectors else None,
        **({"stages": [{"curated": version.identity()} for version in versions]} if config.stages else {}),
        "config": config.identity(),
    }


def _vectors_begun_with(folder: RunFolder, curated: TableVersion) -> TableVersion | None:
    """The vectors of a run that this one goes on with: newer ones may have come since, of other texts or teachers."""
    begun = folder.read(IDENTITY) if folder.has_trained() else None
    is_same = begun is not None and begun["curated"] == curated.identity()
    return curated.tables.recorded(Input(**begun["vectors"])) if begun and is_same and begun["vectors"] else None


def _update_record(folder: RunFolder) -> None:
    """Write the identity that is recorded here as today's code would, for claim() to compare like with like.

    A field that has since got a default, or another spelling that DistillConfig still reads, makes no other run.
    """
    recorded = folder.read(IDENTITY)
    if recorded is not None:
        with suppress(ValidationError):  # of a version with other fields: another run, and claim() tells the difference
            meant = DistillConfig.model_validate(recorded["config"]).identity()
            if meant != recorded["config"]:
                folder.write(IDENTITY, recorded | {"config": meant})


def _check_source_of(folder: RunFolder, config: DistillConfig) -> None:
    """Refuse to go on with a training that was begun from other weights which lay where the source lies now."""
    begun = folder.read(f"{WORK}/{UNTRAINED}/config.json") if folder.has_trained() else None
    if begun is not None:
        source = Source.find(config).folder
        found = name_of(source, weights_sha256(source))
        if begun.get("distilled_from") not in (None, found):
            raise UserError(
                f"model {folder.name} was begun from {begun['distilled_from']}, but {config.source_model} now is "
                f"{found}. Bring the old weights back to go on with it, choose another --name, or delete {folder.uri}"
            )


def _finished(folder: RunFolder) -> Json | None:
    """The run.json of a model that is here whole."""
    return folder.read(RUN) if folder.holds(MODEL) else None


def _row_of(
    folder: RunFolder, trained: Json, curated: TableVersion, config: DistillConfig, vectors: TableVersion | None
) -> TableVersion:
    """The models version with the model's row, which is written now unless it is there."""
    model_id = f"{folder.name}@{trained['weights_sha256'][:12]}"
    models = curated.tables.latest("models")
    if models is not None and len(models.scan().filter(pl.col("model_id") == model_id).collect()):
        return models
    row = {
        "model_id": model_id,
        "name": folder.name,
        "weights_sha256": trained["weights_sha256"],
        "uri": f"{folder.uri}/{MODEL}",
        "curated_version": str(curated),
        "vectors_version": str(vectors) if vectors else None,
        "recipe": json.dumps(trained["config"]),
        "config_fingerprint": fingerprint(config),
        "code": json.dumps(trained["code"]),
        "engine": json.dumps(trained["engine"]),
        "seconds": trained["seconds"],
        "steps": trained["steps"],
        "parents": trained["parents"],
        "dev_ndcg_at_10": trained.get("dev", {}).get("dev_ndcg_at_10"),
        "dev_set": trained.get("dev", {}).get("set"),
    }
    others = [one for one in curated_versions(stages_of(curated, config, vectors)) if one != curated]
    inputs = [curated, *others] if vectors is None else [curated, *others, vectors]
    result = TrainingResult(model=model_id, training_data=trained["training_data"])
    lineage = Lineage("distill", inputs, config, result)
    with new_version(curated.tables, Models, lineage, mode="append") as writer:
        writer.write(pl.DataFrame([row], schema=Models.polars_schema()))
    return writer.version


def _initialise(config: DistillConfig, kept: Tables) -> None:
    """The untrained student as a folder for the workers, which then need no hub."""
    from pipelines.students.initialise import initialise_student

    student = initialise_student(config)
    filesystem, path = kept.filesystem()
    filesystem.create_dir(f"{path}/{UNTRAINED}", recursive=True)
    with tempfile.TemporaryDirectory() as folder:
        student.save_pretrained(folder, create_model_card=False)
        fs.copy_files(folder, f"{path}/{UNTRAINED}", destination_filesystem=filesystem)


def _fetch(checkpoint: Any, output: Path) -> None:
    """The trained model, what its objective trained beside it, if anything, its metrics, and TensorBoard of these."""
    from pipelines.students.training.tensorboard import write_events

    output.mkdir(parents=True, exist_ok=True)
    with checkpoint.as_directory() as folder:
        shutil.copytree(Path(folder, MODEL), output / MODEL, dirs_exist_ok=True)
        if Path(folder, OBJECTIVE).exists():
            shutil.copy(Path(folder, OBJECTIVE), output / OBJECTIVE)
        shutil.copy(Path(folder, METRICS), output / METRICS)
    try:
        write_events(output / TENSORBOARD, output / METRICS)
    except Exception as error:  # of whatever kind: metrics.jsonl has all of it
        tell(f"distill: TensorBoard's files could not be written ({describe(error)})")


def _tell_choice(place: Place, trained: Json) -> None:
    """Which step's student was taken, where one was chosen; steps are those of the stage."""
    if dev := trained.get("dev"):
        share = dev["seconds"] / (dev["seconds"] + trained["seconds"])
        early = ", where it was stopped" if dev["stopped_early"] else ""
        tell(
            f"{place}: the student after step {dev['step']:,} of {trained['steps']:,}{early} is taken: the best of "
            f"{dev['evaluations']} by dev nDCG@10, {dev['dev_ndcg_at_10']:.4f}; to find it took {share:.0%} of the time"
        )
