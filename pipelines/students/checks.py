"""What a training cannot do is refused here, before Ray starts and before anything is written.

curated@v, config (+ vectors@v)  --check_training-->  nothing, or the error of the first stage that cannot be trained
"""

import tempfile
from collections.abc import Sequence

import polars as pl

from pipelines.checkpoints.inspect import weight_files
from pipelines.stage.cluster import named_cluster
from pipelines.stage.disk import check_room
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import TableVersion
from pipelines.students.config import DistillConfig
from pipelines.students.data.dev_set import check_dev
from pipelines.students.data.rows import ScoredPassages, check_rows
from pipelines.students.data.teacher_vectors import check_needed, check_vectors
from pipelines.students.data.texts import check_texts
from pipelines.students.data.tokenise import cache_bytes, check_targets
from pipelines.students.source import Source
from pipelines.students.stages import Stage, curated_versions, stages_of
from pipelines.students.training.sinks import find_sink

BYTES_KEPT, BYTES_OF_BEST = 6, 2
"""Of each byte of the student's weights, which are at most the source's: two checkpoints of weights and two moments;
and of the best student so far, where it is chosen."""


def check_training(curated: TableVersion, config: DistillConfig, vectors: TableVersion | None) -> None:
    """Refuse what cannot be trained, before Ray starts and before anything is written. Reads ids, loads no weight.

    Raises:
        UserError: the source is not there or too small for the config, or the data cannot serve it.
    """
    source = check_source(config)
    if config.sink is not None:
        find_sink(config.sink)
    stages = stages_of(curated, config, vectors)
    widths = []
    for stage in stages:
        with stage.named():
            widths.append(_check_stage(stage, source))
    _say_where_not_held_out(stages, curated)
    weights = sum(path.stat().st_size for path in weight_files(source.folder))
    num_bytes = BYTES_KEPT + (BYTES_OF_BEST if any(one.config.dev_every_steps for one in stages) else 0)
    check_room(curated.tables.uri, (num_bytes + (len(stages) > 1)) * weights, "distill: its checkpoints")
    if named_cluster() is None:  # else it lies on the cluster's nodes
        sizes = [
            cache_bytes(one.curated, one.config, width, one.vectors) for one, width in zip(stages, widths, strict=True)
        ]
        check_room(tempfile.gettempdir(), max(sizes), "distill: the token cache")


def _check_stage(stage: Stage, source: Source) -> int:
    """Refuse data that cannot serve a stage; gives the width of its vectors, 0 without."""
    curated, vectors, config = stage.curated, stage.vectors, stage.config
    _check_splits(curated.usable(), config)
    if config.data == "triplets":
        check_targets(curated, config)
    check_dev(curated, config)
    check_needed(vectors, curated, config)
    if config.data == "triplets" and config.candidates_from == "scored":
        ScoredPassages(curated)
    if vectors is None:
        return 0
    width = check_vectors(vectors.usable(), curated, config, source.student_width(config))
    if config.data == "texts":
        check_texts(curated, vectors, config)
    return width


def _say_where_not_held_out(stages: Sequence[Stage], curated: TableVersion) -> None:
    """Versions curated with other shares may train on what another holds out for its test."""
    test = curated.scan().filter(pl.col("split") == "test").select("query_id")
    for version in curated_versions(stages):
        if version != curated:
            trained = version.scan().filter(pl.col("split") == "train").select("query_id").unique()
            found = test.unique().join(trained, on="query_id", how="semi").select(pl.len())
            if count := found.collect(engine="streaming").item():
                tell(
                    f"distill: {version} trains on {count:,} queries of the test split of {curated}, whose figures "
                    "will flatter the model: curate both with the same curate.test_share, or evaluate with --beir"
                )


def check_source(config: DistillConfig) -> Source:
    """What the source says of itself. Raises UserError when no such student can be made of it."""
    source = Source.find(config)
    source.pick(config)
    return source


def _check_splits(curated: TableVersion, config: DistillConfig) -> None:
    counts = curated.scan().group_by("split").len().sort("split").collect(engine="streaming")
    rows = dict(counts.iter_rows())
    if not rows.get("train"):
        raise UserError(f"{curated} has no triplet in its train split (splits: {sorted(rows)}); curate again")
    rows["train"] = check_rows(curated, config)
    if not rows.get("test"):
        tell(f"{curated} has no triplet in its test split: `evaluate` may need --beir (curate.test_share decides)")
    if config.data == "triplets" and rows["train"] < config.triplets_per_step:
        tell(
            f"{curated} has {rows['train']:,} triplets to train on, fewer than distill.triplets_per_step "
            f"{config.triplets_per_step:,}: each step sees all of them"
        )
