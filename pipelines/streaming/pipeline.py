"""The Ray Data pipeline of a scoring run: three operators over an actor pool. No commits in here.

    chunks --read (tasks)--> rows --TeacherActor (actors: GPU where there is one)--> rows --write_chunk (tasks)--> files

So the teacher never waits for I/O, and only small rows reach the driver.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import polars as pl
import ray
import ray.data

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.pairs import ChunkScorer, Row, TeacherActor, no_pairs, pack, unpack, write_chunk
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.storage.commits import ScoringEngine
from pipelines.storage.lineage import engine
from pipelines.teachers.config import TeacherConfig
from schemas import Table, Triplets

IO_CPUS = 0.05
"""What a read or write task claims of a CPU, so that nearly all of them are left to the actors."""


def _resources() -> dict[str, float]:
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


def has_gpu(config: ScoreConfig) -> bool:
    """Whether the actors of this run go to GPUs."""
    return config.use_gpu if config.use_gpu is not None else _resources().get("GPU", 0) > 0


def num_actors(config: ScoreConfig) -> int:
    """How many actors the cluster has room for now, at least one, at most `max_actors`."""
    resources = _resources()
    room = resources.get("GPU", 0) / config.num_gpus if has_gpu(config) else resources.get("CPU", 0) / config.num_cpus
    return max(1, min(int(room), config.max_actors or int(room)))


def scoring_engine(config: ScoreConfig) -> ScoringEngine:
    """What computes the scores: library versions and the kind of device. Another engine moves the last bits."""
    accelerators = sorted(name for name in _resources() if name.startswith("accelerator_type:"))
    this = engine()
    device = ",".join(accelerators) or "GPU" if has_gpu(config) else f"{this.machine} {this.processor}"
    libraries = {name: this.libraries[name] for name in ("torch", "transformers", "sentence-transformers")}
    return ScoringEngine(device=device, libraries=libraries)


class Operators(NamedTuple):
    """What the three operators do with a chunk, and where its file goes."""

    read: Callable[..., Row]
    actor: type[TeacherActor]
    table: type[Table]


def stream(
    chunks: list[Row], operators: Operators, config: ScoreConfig, teacher: str, tables: Tables, read: dict[str, Any]
) -> Iterator[Row]:
    """Send the chunks through `operators`, reading each by `read(chunk, **read)`; yields one small row per chunk.

    Raises:
        UserError: a worker refused the teacher.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    few = max(1, num_actors(config) // 2)  # each costs a process, and reading is quick beside scoring
    io: dict[str, Any] = {"num_cpus": IO_CPUS, "concurrency": few}
    written = (
        ray.data.from_items(chunks, override_num_blocks=len(chunks))
        .map(operators.read, fn_kwargs=read, **io)
        .map(operators.actor, **_actors(config, teacher, len(chunks)))  # type: ignore[arg-type]  # Ray takes classes too
        .map(write_chunk, fn_kwargs={"tables": tables, "table": operators.table}, **io)  # type: ignore[arg-type]
    )
    for row in written.iter_rows():
        if row["refused"]:
            raise UserError(row["refused"])
        yield row


def _actors(config: ScoreConfig, teacher: str, num_chunks: int) -> dict[str, Any]:
    """The actor pool: as many actors as there is room and work for, none of them missed when it dies.

    In a fixed-size pool a dead actor would keep its slot (Ray issue 62746), so the pool may shrink to one.
    """
    size = min(num_actors(config), num_chunks)
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=2)
    resources = {"num_gpus": config.num_gpus} if has_gpu(config) else {"num_cpus": config.num_cpus - IO_CPUS}
    threads = None if has_gpu(config) else config.num_cpus
    teacher_config = TeacherConfig.part_of(config.model_dump())
    return {"compute": pool, "fn_constructor_args": (teacher_config, teacher, threads), **resources}


def rescore(rows: pl.DataFrame, config: ScoreConfig, teacher: str) -> pl.DataFrame:
    """Scored rows, scored once more by an actor of this cluster.

    Raises:
        UserError: the worker refused the teacher.
    """
    triplets = rows.select(Triplets.polars_schema().keys())
    chunk = {"lower": "", "upper": "", "base": -1, "rows": pack(triplets), "known": pack(no_pairs())}
    scored = ray.data.from_items([chunk]).map(ChunkScorer, **_actors(config, teacher, 1)).take_all()  # type: ignore[arg-type]
    if scored[0]["refused"]:
        raise UserError(scored[0]["refused"])
    return unpack(scored[0]["rows"])
