"""From planned ranges to committed rows: stream the chunks, commit their files in groups by compare-and-set.

A file is committed only if nobody has added rows of this teacher in its chunk's range since the chunk was read; an
overtaken chunk is dropped, and the next plan finds what is still missing of it.
"""

import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.pairs import Row
from pipelines.stage.progress import Progress
from pipelines.storage import DataFile, Lineage, QueryRange, Tables, TableVersion, VersionMoved, commit
from pipelines.storage.commits import Commit, ScoringResult
from pipelines.storage.tables import bucket_ranges
from pipelines.storage.writing import ABSENT, remove_files
from pipelines.streaming.pipeline import Operators, num_actors, scoring_engine, stream

CHUNKS_PER_ACTOR = 4
"""At least so many chunks for each actor, so that none waits long for the last."""


class Job(NamedTuple):
    """One run of a teacher over a triplets version, and where its rows go."""

    triplets: TableVersion
    config: ScoreConfig
    teacher: str
    operators: Operators
    read: dict[str, Any]  # further arguments of operators.read
    id_column: str  # the id whose ranges the chunks are
    command: str  # goes on where this run stopped
    connect: Callable[[], None] = lambda: None  # to Ray, once

    @property
    def tables(self) -> Tables:
        return self.triplets.tables

    @property
    def table_name(self) -> str:
        return self.operators.table.table_name()

    def commit(self, **result: Any) -> Commit:
        """The commit's record."""
        scoring = ScoringResult(teacher=self.teacher, engine=scoring_engine(self.config), **result)
        return Lineage("score", [self.triplets], self.config).commit(self.tables.invocation, scoring)


class Plan(NamedTuple):
    """What is left to do: buckets of ids with their rows."""

    buckets: list[str]
    rows: list[int]
    num_total: int

    @property
    def num_left(self) -> int:
        return sum(self.rows)

    def chunks(self, config: ScoreConfig) -> list[QueryRange]:
        """Chunks of at most `chunk_rows`, smaller when there is little work for many actors."""
        fair = math.ceil(self.num_left / (num_actors(config) * CHUNKS_PER_ACTOR))
        return bucket_ranges(self.buckets, self.rows, min(config.chunk_rows, fair))


def work_off(job: Job, plan: Callable[[], Plan], left: Plan) -> Plan:
    """Plan, stream and commit until nothing is left or a whole pass brings nothing; returns the last plan."""
    while left.num_left:
        _pass(job, left)
        before, left = left, plan()
        if left.num_left >= before.num_left:
            break
    return left


def _pass(job: Job, left: Plan) -> None:
    """Send the planned chunks through the pipeline once; commit what comes out, in groups."""
    done = left.num_total - left.num_left
    progress = Progress(job.table_name, "rows", done=done, total=left.num_total)
    chunks = [{"lower": chunk.lower, "upper": chunk.upper} for chunk in left.chunks(job.config)]
    waiting: list[Row] = []
    committed_at = time.monotonic()
    try:
        for row in stream(chunks, job.operators, job.config, job.teacher, job.tables, job.read):
            waiting.append(row)
            if time.monotonic() - committed_at >= job.config.commit_every_s:
                group, waiting = waiting, []  # an interrupted commit may stand: its files must, too
                progress.advance(commit_group(job, group))
                committed_at = time.monotonic()
        group, waiting = waiting, []
        progress.advance(commit_group(job, group))
    except BaseException:
        remove_files(job.tables, job.operators.table, [_data_file(row) for row in waiting if row["num_rows"]])
        print(f"{progress.told()} by {job.teacher}; to go on: {job.command}", file=sys.stderr, flush=True)
        raise


def commit_group(job: Job, rows: list[Row]) -> int:
    """Commit the written chunks that no other run has overtaken; returns the rows committed."""
    table = job.operators.table
    rows = [row for row in rows if row["num_rows"]]
    while True:
        base = job.tables.latest(job.table_name)
        overtaken = [row for row in rows if base is not None and _is_overtaken(job, row, base)]
        fresh = [row for row in rows if row not in overtaken]
        if fresh:
            files = [_data_file(row) for row in fresh]
            told = {"rows": sum(file.num_rows for file in files), "errors": sum(row["num_errors"] for row in fresh)}
            try:
                commit(job.tables, table, files, job.commit(**told), mode="append", expected=base or ABSENT)
            except VersionMoved:
                continue
        remove_files(job.tables, table, [_data_file(row) for row in overtaken])
        return sum(row["num_rows"] for row in fresh)


def _is_overtaken(job: Job, row: Row, newest: TableVersion) -> bool:
    """Whether a file of this teacher in the chunk's range was added after the version the chunk was read against."""
    if newest.version == row["base"]:
        return False
    read = TableVersion(newest.tables, newest.name, row["base"]).files() if row["base"] >= 0 else []
    known = {file["path"] for file in read}
    return any(
        file["min.teacher"] <= job.teacher <= file["max.teacher"]
        and file[f"min.{job.id_column}"] < row["upper"]
        and file[f"max.{job.id_column}"] >= row["lower"]
        for file in newest.files()
        if file["path"] not in known
    )


def _data_file(row: Row) -> DataFile:
    return DataFile(**{name: row[name] for name in DataFile._fields})
