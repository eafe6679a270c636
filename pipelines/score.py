"""Score every (query, passage) pair of a triplets version with a teacher, exactly once.

    triplets@v  --plan--> chunks --scoring/pipeline.py--> files --commit--> scored_triplets@v'

A run plans what this teacher has not scored yet, sends it through the pipeline in chunks of neighbouring queries,
and commits the written files in groups by compare-and-set. A file is committed only if no other run has added rows
of this teacher in its chunk's range since the chunk was read; else the chunk is planned again. So a run may be
killed anywhere, and several may run at once: what is committed stays, what is not leaves no trace in any version.
The last commit holds no rows: it says which (teacher, triplets version) is now complete.
"""

import json
import math
import sys
import time
from typing import Any, NamedTuple

import polars as pl
from pydantic import Field

from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.scoring.chunks import Row, Share, pairs_of, unscored
from pipelines.scoring.pipeline import PoolConfig, num_actors, rescore, scoring_engine, stream
from pipelines.storage import DataFile, Lineage, QueryRange, Tables, TableVersion, VersionMoved, commit
from pipelines.storage.tables import bucket_ranges
from pipelines.storage.writing import ABSENT, remove_files
from pipelines.teachers.config import name_teacher
from schemas import ScoredTriplets

CHUNKS_PER_ACTOR = 4
"""At least so many chunks for each actor, so that none waits long for the last."""


class ScoreConfig(PoolConfig):
    """The teacher and how the work is spread. Stored with every version it produced."""

    chunk_rows: int = Field(20_000, ge=1)
    """Most triplets of a chunk: some minutes of work, the unit that a kill can lose."""

    commit_every_s: float = Field(10.0, ge=0)
    """Written chunks are committed together, this many seconds apart."""

    engine_check_pairs: int = Field(1_000, ge=0)
    """On libraries or hardware new to this teacher's scores, so many existing triplets are scored again first."""

    engine_tolerance: float = Field(1e-4, gt=0)
    """Largest difference between existing and new score that the check lets pass, in the score's own units."""


class Job(NamedTuple):
    """One scoring run: what is scored, by whom, how."""

    triplets: TableVersion
    config: ScoreConfig
    teacher: str
    share: Share
    note: str

    @property
    def tables(self) -> Tables:
        return self.triplets.tables

    def command(self) -> str:
        """What goes on where this run stopped."""
        share = f" --share {self.share.share}" if self.share.share < 1 else ""
        return f"python -m jobs score --from {self.triplets}{share} (with the same --tables, --recipe and --set)"

    def metadata(self, **result: Any) -> dict[str, str]:
        """The commit's lineage."""
        told = {"teacher": self.teacher, "engine": scoring_engine(self.config), **result}
        return Lineage("score", [self.triplets], self.config, note=self.note).metadata(told)


class Plan(NamedTuple):
    """What is left to do: ranges of buckets with their rows."""

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


def run(
    triplets: TableVersion, config: ScoreConfig, *, share: float = 1.0, dry_run: bool = False, note: str = ""
) -> TableVersion | None:
    """Score what is missing and commit the completion; returns the version that says so, None for a dry run.

    Needs a Ray cluster (jobs/cluster.py connects to one).

    Raises:
        UserError: the teacher cannot be loaded, or this engine's scores differ from the existing ones.
    """
    if not 0 < share <= 1:
        raise UserError(f"share is {share}, expected a part of the queries above 0 and at most 1")
    job = Job(triplets, config, name_teacher(config), Share(share), note)
    left = plan(job)
    _tell(f"{triplets}: {left.num_total:,} rows, {left.num_total - left.num_left:,} of them scored by {job.teacher}")
    if dry_run:
        _tell(f"{left.num_left:,} rows to score; nothing was done (dry run)")
        return None
    if left.num_left:
        check_engine(job)
    while left.num_left:
        _score_planned(job, left)
        after = plan(job)
        if after.num_left >= left.num_left:
            raise RuntimeError(f"scoring does not advance: {after.num_left:,} rows left; to go on: {job.command()}")
        left = after
    return complete(job, left.num_total)


def plan(job: Job) -> Plan:
    """Unscored rows by bucket, from ids alone and range by range, so in bounded memory."""
    scored = job.tables.latest("scored_triplets")
    buckets: list[str] = []
    rows: list[int] = []
    num_total = 0
    for query_range in job.triplets.query_ranges(max_rows=2_000_000):
        of_share = job.triplets.scan().filter(query_range.contains("query_id") & job.share.contains())
        num_total += of_share.select(pl.len()).collect().item()
        left = unscored(job.triplets, scored, job.teacher, query_range, job.share)
        counted = left.group_by(pl.col("query_id").str.head(3).alias("bucket")).agg(rows=pl.len()).sort("bucket")
        for bucket, count in counted.collect().iter_rows():
            buckets.append(bucket)
            rows.append(count)
    return Plan(buckets, rows, num_total)


def _score_planned(job: Job, left: Plan) -> None:
    """Send the planned chunks through the pipeline once; commit what comes out, in groups."""
    progress = Progress("score", "rows", done=left.num_total - left.num_left, total=left.num_total)
    chunks = [{"lower": chunk.lower, "upper": chunk.upper} for chunk in left.chunks(job.config)]
    read = {"triplets": job.triplets, "teacher": job.teacher, "share": job.share}
    waiting: list[Row] = []
    committed_at = time.monotonic()
    try:
        for row in stream(chunks, job.config, job.teacher, job.tables, read):
            waiting.append(row)
            if time.monotonic() - committed_at >= job.config.commit_every_s:
                progress.advance(commit_group(job, waiting))
                waiting, committed_at = [], time.monotonic()
        progress.advance(commit_group(job, waiting))
        waiting = []
    except BaseException:
        remove_files(job.tables, ScoredTriplets, [_data_file(row) for row in waiting if row["num_rows"]])
        _tell(f"{progress.told()} by {job.teacher}; to go on: {job.command()}")
        raise


def commit_group(job: Job, rows: list[Row]) -> int:
    """Commit the written chunks that no other run has overtaken; returns the rows committed."""
    rows = [row for row in rows if row["num_rows"]]
    while True:
        base = job.tables.latest("scored_triplets")
        overtaken = [row for row in rows if base is not None and _is_overtaken(job, row, base)]
        fresh = [row for row in rows if row not in overtaken]
        if fresh:
            files = [_data_file(row) for row in fresh]
            result = {"rows": sum(file.num_rows for file in files), "errors": sum(row["num_errors"] for row in fresh)}
            try:
                commit(
                    job.tables, ScoredTriplets, files, job.metadata(**result), mode="append", expected=base or ABSENT
                )
            except VersionMoved:
                continue
        remove_files(job.tables, ScoredTriplets, [_data_file(row) for row in overtaken])
        return sum(row["num_rows"] for row in fresh)


def _is_overtaken(job: Job, row: Row, newest: TableVersion) -> bool:
    """Whether a file of this teacher in the chunk's range was added after the version the chunk was read against."""
    if newest.version == row["base"]:
        return False
    read = TableVersion(newest.tables, newest.name, row["base"]).files() if row["base"] >= 0 else []
    known = {file["path"] for file in read}
    return any(
        file["min.teacher"] <= job.teacher <= file["max.teacher"]
        and file["min.query_id"] < row["upper"]
        and file["max.query_id"] >= row["lower"]
        for file in newest.files()
        if file["path"] not in known
    )


def check_engine(job: Job) -> None:
    """On an engine that has not scored for this teacher yet, score some existing rows again and compare.

    Raises:
        UserError: a score differs by more than the tolerance.
    """
    scored = job.tables.latest("scored_triplets")
    if scored is None or not job.config.engine_check_pairs:
        return
    results = [told["result"] for _, told in scored.history() if told.get("result", {}).get("teacher") == job.teacher]
    this = scoring_engine(job.config)
    if not results or any(result.get("engine") == this for result in results):
        return
    existing = scored.scan().filter((pl.col("teacher") == job.teacher) & pl.col("scoring_error").is_null())
    existing_rows = existing.head(job.config.engine_check_pairs).collect()
    again = rescore(existing_rows, job.config, job.teacher)
    pairs = pairs_of(existing_rows).join(pairs_of(again), on=["query_id", "passage_id"], suffix="_again")
    difference = pairs.select((pl.col("score") - pl.col("score_again")).abs().max()).item()
    before = json.dumps(results[0].get("engine"))
    if difference is None or not difference <= job.config.engine_tolerance:
        raise UserError(
            f"{job.teacher} on this engine gives scores up to {difference} away from those in {scored}, the tolerance is "
            f"{job.config.engine_tolerance} (then {before}, now {json.dumps(this)}); score on the old engine, allow the "
            f"difference with --set score.engine_tolerance=..., or score into another root"
        )
    _tell(f"new engine: {len(pairs):,} pairs scored again, largest difference {difference:.2g}: goes on")


def complete(job: Job, num_rows: int) -> TableVersion:
    """The version whose commit says that all rows of the triplets version are scored; made now unless it is there."""
    told = {
        "teacher": job.teacher,
        "teacher_kind": job.config.teacher_kind,
        "triplets": str(job.triplets),
        "triplets_table_id": job.triplets.identity()["table_id"],
        "share": job.share.share,
        "rows": num_rows,
    }
    while True:
        base = job.tables.latest("scored_triplets")
        if base is None and not num_rows:
            raise UserError(f"{job.triplets} has no rows in a share of {job.share.share}; there is nothing to score")
        assert base is not None, "rows were scored, so there is a version"
        for version, metadata in base.history():
            if metadata.get("result", {}).get("complete") == told:
                _tell(f"{version}: all {num_rows:,} rows were scored by {job.teacher} already")
                return version
        try:
            version = commit(job.tables, ScoredTriplets, [], job.metadata(complete=told), mode="append", expected=base)
        except VersionMoved:
            continue
        _tell(f"{version}: all {num_rows:,} rows of {job.triplets} are scored by {job.teacher}")
        return version


def _data_file(row: Row) -> DataFile:
    return DataFile(**{name: row[name] for name in DataFile._fields})


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
