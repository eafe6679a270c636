"""Score every (query, passage) pair of a triplets version with a teacher, exactly once.

    triplets@v  --pipelines/streaming--> scored_triplets@v'     (and teacher_vectors, if wanted)
    files of plain texts  --pipelines/streaming-->  teacher_vectors@v'     (`run_texts`)
    curated_triplets@v, varied  --pipelines/streaming-->  teacher_vectors@v'     (`run_varied`)

A run plans what this teacher has not scored yet, streams it through the cluster in chunks of neighbouring queries
and commits as it goes. It may be killed anywhere, and several may run at once: what is committed stays, what is not
leaves no trace in any version. The last commit holds no rows: it says which (teacher, triplets version) is complete.
"""

import json
import shlex
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from pipelines.intake.delimited import Quoting
from pipelines.intake.find_files import find_files
from pipelines.intake.layouts import RowChecks
from pipelines.intake.plain_texts import read_texts
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.encoding import encode, vector_bytes
from pipelines.scoring.engine_check import check_engine, scored_elsewhere
from pipelines.scoring.forecast import Speed
from pipelines.scoring.precision import settled
from pipelines.scoring.price import Price, nothing_left, price
from pipelines.scoring.streams import PairStream, PlainTextStream, TextStream, staged
from pipelines.scoring.variation import copies_of
from pipelines.stage import hints
from pipelines.stage.disk import check_room
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion, VersionMoved, commit
from pipelines.storage.commits import Completion, IngestedFile, ScoringResult
from pipelines.streaming.commits import drain
from pipelines.streaming.stream import Plan
from pipelines.teachers.config import name_teacher
from schemas import ScoredTriplets

if TYPE_CHECKING:
    from pipelines.teachers.bi_encoder import TextKind


def run(
    triplets: TableVersion,
    config: ScoreConfig,
    *,
    connect: Callable[[], None],
    share: float = 1.0,
    vectors: bool = False,
) -> list[TableVersion]:
    """Score what is missing and commit the completion.

    Args:
        connect: connects to Ray (jobs/cluster.py), as often as asked; called once the teacher is found and there is
            something to do or to decide.
        share: part of the queries, chosen by id: 0.01 is part of 0.05.
        vectors: also store a bi-encoder's vector of each text; pairs are then scored from these.
    Returns:
        The scored_triplets version that says so, and the newest teacher_vectors if asked for.
    Raises:
        UserError: the teacher cannot be loaded, or this engine's scores differ from the existing ones.
    """
    scoring, encoding = validate(triplets, config, share, vectors, connect)
    pairs, texts = plan(scoring, encoding)
    return execute(scoring, pairs, texts, connect)


def ask_price(
    triplets: TableVersion,
    config: ScoreConfig,
    *,
    connect: Callable[[], None],
    began: float,
    share: float = 1.0,
    vectors: bool = False,
) -> Price:
    """What `run` would do and how long it would take, by the real teacher on the cluster; nothing is written.

    Args:
        began: when the command did, as time.monotonic tells: a run takes as long to begin.
    Raises:
        UserError: as `run`, or a share that has no rows.
    """
    scoring, encoding = validate(triplets, config, share, vectors, connect)
    started = time.monotonic()
    pairs, texts = plan(scoring, encoding)
    plan_s = time.monotonic() - started
    plans = {"texts": texts, "rows": pairs} if texts else {"rows": pairs}
    if not pairs.num_total:
        raise UserError(f"a share of {share} of {triplets} has no rows; nothing to score")
    if not any(one.num_left for one in plans.values()):
        tell("nothing is left: a run only commits that it is complete, if no commit says so yet")
        return nothing_left(plans)
    connect()
    existing, _ = scored_elsewhere(scoring) if pairs.num_left else (pl.DataFrame(), None)
    return price(plans, Speed(time.monotonic() - began, plan_s), len(existing))


class TextFiles(NamedTuple):
    """Files of plain texts of one kind, and how they are read."""

    inputs: list[str]
    column: str = "text"
    kind: "TextKind" = "passage"
    quoting: Quoting | None = None


def run_texts(
    tables: Tables,
    read: TextFiles,
    config: ScoreConfig,
    *,
    checks: RowChecks,
    connect: Callable[[], None],
    dry_run: bool = False,
) -> list[TableVersion]:
    """A bi-encoder's vector of each text of some files that it lacks yet; no triplets, and nothing is scored.

    Returns:
        The newest teacher_vectors; none for a dry run.
    Raises:
        UserError: the teacher cannot be loaded, or a file not be read; nothing is written then.
    """
    _check_vectors_teacher(config)
    tables.check_writable("teacher_vectors")
    config = settled(config, tables, None if dry_run else connect)
    maker = name_teacher(config)
    inputs, column, kind, quoting = read
    found = find_files(inputs, quoting)
    told = json.dumps({"text": column, "kind": kind})
    files = [IngestedFile(path=file.path, sha256=file.sha256, source=file.source, columns=told) for file in found]
    named = f"--texts {shlex.join(inputs)} --columns {shlex.quote(f'text={column}')} --kind {kind}"
    command = hints.completed(f"`python -m jobs score --vectors {named}`")
    batches = ((kind, batch) for file in found for batch in read_texts(file, column, checks))
    with staged(tables, batches, files=files) as texts:
        stream = PlainTextStream(texts, config, maker, command)
        newest = encode(stream, connect, dry_run=dry_run)
    if newest is None and not dry_run:
        raise UserError(f"{', '.join(inputs)}: no text in the column {column} that {maker} could encode")
    return [newest] if newest else []


def run_varied(
    curated: TableVersion, config: ScoreConfig, *, connect: Callable[[], None], dry_run: bool = False
) -> list[TableVersion]:
    """A bi-encoder's vector of each of `varied_copies` copies of every passage that a curated version trains on.

    They stand in teacher_vectors as plain texts, for a training on texts. Queries have none: what is held out stays so.

    Returns:
        The newest teacher_vectors; none for a dry run.
    Raises:
        UserError: no copies are wanted, the teacher cannot be loaded, or there is nothing in training.
    """
    if not config.varied_copies:
        raise UserError("score.varied_copies is 0: --varied has nothing to do; set how many copies a passage gets")
    _check_vectors_teacher(config)
    tables = curated.usable().tables
    tables.check_writable("teacher_vectors")
    config = settled(config, tables, None if dry_run else connect)
    command = hints.completed(f"`python -m jobs score --vectors --varied --from {curated}`")
    copies: Iterator[tuple[TextKind, list[str]]]
    copies = (("passage", batch) for batch in copies_of(curated, config.varied_copies))
    with staged(tables, copies, version=curated) as texts:
        stream = PlainTextStream(texts, config, name_teacher(config), command)
        newest = encode(stream, connect, dry_run=dry_run)
    return [newest] if newest else []


def validate(
    triplets: TableVersion, config: ScoreConfig, share: float, vectors: bool, connect: Callable[[], None]
) -> tuple[PairStream, TextStream | None]:
    """What is asked for, as streams by a teacher that is there."""
    if not 0 < share <= 1:
        raise UserError(f"share is {share}, expected a part of the queries above 0 and at most 1")
    if vectors:
        _check_vectors_teacher(config)
    options = f"{f' --share {share}' if share < 1 else ''}{' --vectors' if vectors else ''}"
    command = hints.completed(f"`python -m jobs score --from {triplets}{options}`")
    triplets.usable().tables.check_writable("scored_triplets", *(["teacher_vectors"] if vectors else []))
    config = settled(config, triplets.tables, connect)
    scoring = PairStream(triplets, config, name_teacher(config), command, share)
    return scoring, TextStream(**vars(scoring)) if vectors else None


def _check_vectors_teacher(config: ScoreConfig) -> None:
    if config.teacher_kind != "bi_encoder":
        raise UserError(f"--vectors needs a bi-encoder teacher, found {config.teacher_kind} {config.teacher}")


def plan(scoring: PairStream, encoding: TextStream | None) -> tuple[Plan, Plan | None]:
    """What is left of both."""
    pairs = Plan.of(scoring)
    tell(f"{scoring.source}: {pairs.num_total:,} rows, {pairs.num_done:,} of them scored by {scoring.maker}")
    return pairs, Plan.of(encoding) if encoding else None


def execute(scoring: PairStream, pairs: Plan, texts: Plan | None, connect: Callable[[], None]) -> list[TableVersion]:
    """Texts first, since pairs are scored from their vectors; then what is complete, and the newest vectors."""
    if pairs.num_left or (texts and texts.num_left):
        check_room(scoring.source.tables.uri, _num_bytes(scoring, pairs, texts), "score")
        connect()
    if pairs.num_left:
        check_engine(scoring)
    if texts and (texts := drain(texts)).num_left:
        tell(f"{texts.num_left:,} texts cannot be encoded: they have no vector, their triplets a scoring_error")
    pairs = drain(pairs)
    if pairs.num_left:
        raise RuntimeError(f"scoring does not advance: {pairs.num_left:,} rows left; to go on: {scoring.command}")
    completed, vectors = complete(scoring, pairs.num_total, connect), texts.stream.newest() if texts else None
    return [completed, vectors] if vectors else [completed]


def _num_bytes(scoring: PairStream, pairs: Plan, texts: Plan | None) -> float:
    """About what is written: the triplets again, as they lie, and of each text a vector of float32."""
    stored = sum(file["size_bytes"] for file in scoring.source.files())
    of_pairs: float = stored * pairs.num_left / max(1, pairs.num_total)
    if texts is None:
        return of_pairs
    return of_pairs + vector_bytes(scoring.config, texts.num_left)


def complete(scoring: PairStream, num_rows: int, connect: Callable[[], None]) -> TableVersion:
    """The version whose commit says that all rows of the triplets version are scored; made now unless it is there."""
    triplets, teacher = scoring.source, scoring.maker
    complete = Completion(
        teacher=teacher,
        teacher_kind=scoring.config.teacher_kind,
        triplets=str(triplets),
        triplets_table_id=triplets.identity()["table_id"],
        share=scoring.share,
        rows=num_rows,
    )
    while True:
        base = scoring.newest()
        if base is None:
            raise UserError(f"a share of {scoring.share} of {triplets} has no rows; nothing to score")
        for version, result in base.results(ScoringResult):
            if result.complete == complete and version.unusable is None:
                tell(f"{version}: all {num_rows:,} rows were scored by {teacher} already")
                return version
        connect()  # the commit names the engine
        try:
            record = scoring.record(complete=complete)
            version = commit(triplets.tables, ScoredTriplets, [], record, mode="append", expected=base)
        except VersionMoved:
            continue
        tell(f"{version}: all {num_rows:,} rows of {triplets} are scored by {teacher}")
        return version
