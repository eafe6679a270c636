"""Score every (query, passage) pair of a triplets version with a teacher, exactly once.

    triplets@v  --plan--> ranges --scoring/commits.py--> scored_triplets@v'     (and teacher_vectors, if wanted)

A run plans what this teacher has not scored yet, streams it through the cluster in chunks of neighbouring queries
and commits as it goes. It may be killed anywhere, and several may run at once: what is committed stays, what is not
leaves no trace in any version. The last commit holds no rows: it says which (teacher, triplets version) is complete.
"""

import json
import sys
from collections.abc import Callable

import polars as pl

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.pairs import ChunkScorer, Share, pairs_of, read_chunk, unscored
from pipelines.scoring.vectors import TextEncoder, read_texts, unencoded
from pipelines.stage.errors import UserError
from pipelines.storage import QueryRange, TableVersion, VersionMoved, commit
from pipelines.storage.commits import Completion, ScoringResult
from pipelines.streaming.commits import Job, Plan, work_off
from pipelines.streaming.pipeline import Operators, rescore, scoring_engine
from pipelines.teachers.config import name_teacher
from schemas import ScoredTriplets, TeacherVectors


def run(
    triplets: TableVersion,
    config: ScoreConfig,
    *,
    share: float = 1.0,
    vectors: bool = False,
    dry_run: bool = False,
    connect: Callable[[], None] = lambda: None,
) -> list[TableVersion]:
    """Score what is missing and commit the completion.

    Args:
        share: part of the queries, chosen by id: 0.01 is part of 0.05.
        vectors: also store a bi-encoder's vector of each text; pairs are then scored from these.
        connect: connects to Ray (jobs/cluster.py); called once the teacher is found and there is something to do.
    Returns:
        The scored_triplets version that says so, and the newest teacher_vectors if asked for; none for a dry run.
    Raises:
        UserError: the teacher cannot be loaded, or this engine's scores differ from the existing ones.
    """
    if not 0 < share <= 1:
        raise UserError(f"share is {share}, expected a part of the queries above 0 and at most 1")
    if vectors and config.teacher_kind != "bi_encoder":
        raise UserError(f"--vectors needs a bi-encoder teacher, found {config.teacher_kind} {config.teacher}")
    teacher, of_queries = name_teacher(config), Share(share)
    told = f"python -m jobs score --from {triplets}{f' --share {share}' if share < 1 else ''}"
    command = f"{told}{' --vectors' if vectors else ''} (with the same --tables, --recipe and --set)"
    scoring = Job(
        triplets=triplets,
        config=config,
        teacher=teacher,
        operators=Operators(read_chunk, ChunkScorer, ScoredTriplets),
        read={"triplets": triplets, "teacher": teacher, "share": of_queries},
        id_column="query_id",
        command=command,
        connect=connect,
    )
    encoding = scoring._replace(operators=Operators(read_texts, TextEncoder, TeacherVectors), id_column="text_id")
    left = plan_scoring(scoring, of_queries)
    _tell(f"{triplets}: {left.num_total:,} rows, {left.num_total - left.num_left:,} of them scored by {teacher}")
    texts = plan_encoding(encoding, of_queries) if vectors else Plan([], [], 0)
    if dry_run:
        to_encode = f" and {texts.num_left:,} texts to encode" if vectors else ""
        _tell(f"{left.num_left:,} rows to score{to_encode}; nothing was done (dry run)")
        return []
    if left.num_left or texts.num_left:
        connect()
    if left.num_left:
        check_engine(scoring, config)
    if texts.num_left:
        texts = work_off(encoding, lambda: plan_encoding(encoding, of_queries), texts)
        if texts.num_left:
            _tell(f"{texts.num_left:,} texts cannot be encoded: they have no vector, their triplets a scoring_error")
    left = work_off(scoring, lambda: plan_scoring(scoring, of_queries), left)
    if left.num_left:
        raise RuntimeError(f"scoring does not advance: {left.num_left:,} rows left; to go on: {command}")
    completed = complete(scoring, share, left.num_total)
    stored = triplets.tables.latest("teacher_vectors") if vectors else None
    return [completed] + ([stored] if stored is not None else [])


def plan_scoring(job: Job, share: Share) -> Plan:
    """Unscored rows by bucket, from ids alone and range by range, so in bounded memory."""
    scored = job.tables.latest("scored_triplets")
    buckets: list[str] = []
    rows: list[int] = []
    num_total = 0
    for query_range in job.triplets.query_ranges(max_rows=2_000_000):
        of_share = job.triplets.scan().filter(query_range.contains("query_id") & share.contains())
        num_total += of_share.select(pl.len()).collect().item()
        left = unscored(job.triplets, scored, job.teacher, query_range, share)
        counted = left.group_by(pl.col("query_id").str.head(3).alias("bucket")).agg(rows=pl.len()).sort("bucket")
        for bucket, count in counted.collect().iter_rows():
            buckets.append(bucket)
            rows.append(count)
    return Plan(buckets, rows, num_total)


def plan_encoding(job: Job, share: Share) -> Plan:
    """Texts without a vector by bucket of their id; their ids are held in memory."""
    everything = QueryRange.of_buckets(0, 4095)
    texts = unencoded(job.triplets, None, job.teacher, everything, share).select(pl.len())
    missing = unencoded(job.triplets, job.tables.latest("teacher_vectors"), job.teacher, everything, share)
    counted = missing.group_by(pl.col("text_id").str.head(3).alias("bucket")).agg(rows=pl.len()).sort("bucket")
    left = counted.collect(engine="streaming")
    return Plan(left["bucket"].to_list(), left["rows"].to_list(), texts.collect(engine="streaming").item())


def check_engine(job: Job, config: ScoreConfig) -> None:
    """On an engine that has not scored for this teacher yet, score some existing rows again and compare.

    Raises:
        UserError: a score differs by more than the tolerance.
    """
    scored = job.tables.latest("scored_triplets")
    if scored is None or not config.engine_check_pairs:
        return
    engines = [result.engine for _, result in scored.results(ScoringResult) if result.teacher == job.teacher]
    this = scoring_engine(config)
    if not engines or this in engines:
        return
    of_teacher = (pl.col("teacher") == job.teacher) & pl.col("scoring_error").is_null()
    existing = scored.scan().filter(of_teacher).head(config.engine_check_pairs).collect()
    again = rescore(existing, config, job.teacher)
    pairs = pairs_of(existing).join(pairs_of(again), on=["query_id", "passage_id"], suffix="_again")
    difference = pairs.select((pl.col("score") - pl.col("score_again")).abs().max()).item()
    before, now = (json.dumps(one.model_dump()) for one in (engines[0], this))
    if difference is None or not difference <= config.engine_tolerance:
        raise UserError(
            f"{job.teacher} on this engine gives scores up to {difference} away from those in {scored}, the tolerance "
            f"is {config.engine_tolerance} (then {before}, now {now}); score on the old engine, "
            f"allow it with --set score.engine_tolerance=..., or score into another root"
        )
    _tell(f"new engine: {len(pairs):,} pairs scored again, largest difference {difference:.2g}: goes on")


def complete(job: Job, share: float, num_rows: int) -> TableVersion:
    """The version whose commit says that all rows of the triplets version are scored; made now unless it is there."""
    complete = Completion(
        teacher=job.teacher,
        teacher_kind=job.config.teacher_kind,
        triplets=str(job.triplets),
        triplets_table_id=job.triplets.identity()["table_id"],
        share=share,
        rows=num_rows,
    )
    while True:
        base = job.tables.latest("scored_triplets")
        if base is None:
            raise UserError(f"a share of {share} of {job.triplets} has no rows; nothing to score")
        for version, result in base.results(ScoringResult):
            if result.complete == complete:
                _tell(f"{version}: all {num_rows:,} rows were scored by {job.teacher} already")
                return version
        job.connect()  # the commit names the engine
        try:
            record = job.commit(complete=complete)
            version = commit(job.tables, ScoredTriplets, [], record, mode="append", expected=base)
        except VersionMoved:
            continue
        _tell(f"{version}: all {num_rows:,} rows of {job.triplets} are scored by {job.teacher}")
        return version


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
