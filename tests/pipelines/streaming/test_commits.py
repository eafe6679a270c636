"""Streaming without scoring: queries in capitals, each once, whoever else writes, refuses or adds rows meanwhile."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from ray.exceptions import RayError

from pipelines.stage.errors import UserError
from pipelines.stage.progress import Progress
from pipelines.storage import Lineage, QueryRange, Tables, TableVersion
from pipelines.storage.commits import Commit, ScoringResult
from pipelines.storage.compact import CompactConfig, compact
from pipelines.streaming.commits import commit_group, count_committed, drain
from pipelines.streaming.config import StreamConfig
from pipelines.streaming.pipeline import Chunk, read_chunk, stream_chunks, work, write_chunk
from pipelines.streaming.stream import Plan, Stream
from pipelines.texts.ids import text_id
from schemas import ScoredTriplets
from tests.scored_versions import scored_rows, write_triplets

CAPITALS = "capitals@0123456789ab"


@dataclass(frozen=True)
class Capitals(Stream):
    """Triplets with their query in capitals; a query that begins with "no" is refused."""

    table = ScoredTriplets
    id_column = "query_id"
    key: ClassVar = ["triplet_id"]
    maker_column = "teacher"
    counts: ClassVar = {"errors": pl.col("positive_tokens_cut").sum()}

    def rows(self, id_range: QueryRange) -> pl.LazyFrame:
        return self.source.scan().filter(id_range.contains("query_id"))

    def beside(self, rows: pl.DataFrame, id_range: QueryRange, newest: TableVersion | None) -> tuple[pl.DataFrame, ...]:
        return (rows.select("triplet_id", positive_tokens_cut=pl.col("query").str.len_chars().cast(pl.Int32)),)

    def actor(self, threads: int | None) -> Callable[..., pl.DataFrame]:
        return self.capitals

    def capitals(self, rows: pl.DataFrame, lengths: pl.DataFrame) -> pl.DataFrame:
        if refused := rows.filter(pl.col("query").str.starts_with("no"))["query"].to_list():
            raise UserError(f"{refused} cannot be written in capitals")
        zero = pl.lit(0.0, pl.Float32)
        scores = {f"{side}_{name}": zero for side in ("positive", "negative") for name in ("score", "relevance")}
        return rows.join(lengths, on="triplet_id").with_columns(
            query=pl.col("query").str.to_uppercase(),
            teacher=pl.lit(self.maker),
            negative_tokens_cut=pl.lit(0, pl.Int32),
            scoring_error=pl.lit(None, pl.String),
            **scores,
        )

    def record(self, **counts: Any) -> Commit:
        result = ScoringResult(teacher=self.maker, **counts)
        return Lineage("score", [self.source], self.config).commit(self.source.tables.invocation, result)


@dataclass(frozen=True)
class Dying(Capitals):
    """Its actors are killed at a query that begins with "kill"."""

    def capitals(self, rows: pl.DataFrame, lengths: pl.DataFrame) -> pl.DataFrame:
        if rows["query"].str.starts_with("kill").any():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().capitals(rows, lengths)


def capitals(tmp_path: Path, num_queries: int, *, chunk_rows: int = 7, more: tuple[str, ...] = ()) -> Capitals:
    """A stream over two triplets of each query."""
    queries = [*(f"question {number}" for number in range(num_queries)), *more]
    rows = scored_rows([(query, "yes", 0.0, negative, 0.0) for query in queries for negative in ("or no", "maybe")])
    triplets = write_triplets(Tables.at(str(tmp_path)), rows)
    return Capitals(triplets, StreamConfig(chunk_rows=chunk_rows, commit_every_s=0, max_actors=1), CAPITALS, "again")


def assert_each_once(stream: Stream, *, leaves_files: bool = False) -> None:
    """Every triplet has its row, and no file lies about that is part of no version, unless some may."""
    newest = stream.newest()
    assert newest is not None
    written = newest.scan().select("triplet_id", "query").collect().sort("triplet_id")
    expected = stream.source.scan().select("triplet_id", pl.col("query").str.to_uppercase()).collect()
    assert written.equals(expected.sort("triplet_id"))
    results = [result for _, result in newest.results(ScoringResult)]
    assert sum(result.rows for result in results) == len(expected)
    assert sum(result.errors for result in results) == expected["query"].str.len_chars().sum()
    assert files_under(stream) >= {file["path"] for file in newest.files()}
    assert leaves_files or len(files_under(stream)) == len(newest.files())


def files_under(stream: Stream) -> set[str]:
    return {path.name for path in Path(stream.source.tables.path("scored_triplets")).glob("*.parquet")}


ALL = QueryRange("000", "g")


def written(stream: Stream, id_range: QueryRange = ALL) -> Chunk:
    """A range, or all rows, as one chunk, through the operators by hand."""
    row = read_chunk(Chunk(id_range).row(), stream)
    return Chunk.of(write_chunk(work(Chunk.of(row), partial(stream.actor, 1)), stream))


def test_a_chunk_that_another_run_has_overtaken_is_not_committed(tmp_path):
    stream = capitals(tmp_path, 6)
    mine, rivals = written(stream), written(stream)

    assert commit_group(stream, [rivals]) == 12
    assert commit_group(stream, [mine]) == 0

    assert_each_once(stream)
    assert mine.file.path not in files_under(stream)


def test_rows_of_another_maker_overtake_nothing(tmp_path):
    stream = capitals(tmp_path, 6)
    mine, others = written(stream), replace(stream, maker="others@0123456789ab")

    assert commit_group(others, [written(others)]) == 12
    assert commit_group(stream, [mine]) == 12


def test_a_compaction_between_a_chunks_read_and_its_commit_loses_and_doubles_nothing(tmp_path):
    stream = capitals(tmp_path, 20)
    tables, ranges = stream.source.tables, Plan.of(stream).chunks(1)
    assert commit_group(stream, [written(stream, one) for one in ranges[:2]]) > 0

    mine, rivals, late = (written(stream, one) for one in (ranges[2], ranges[3], ranges[3]))
    assert compacted(tables) == "scored_triplets"
    assert commit_group(stream, [mine]) == mine.file.num_rows, "a compaction overtakes nobody"
    assert commit_group(stream, [rivals]) == rivals.file.num_rows
    assert compacted(tables) == "scored_triplets"
    assert commit_group(stream, [late]) == 0, "its rows lie in a file of the compaction now"

    assert commit_group(stream, [written(stream, one) for one in ranges[4:]]) > 0
    newest = stream.newest()
    assert newest is not None
    assert sorted(newest.scan().collect()["triplet_id"]) == sorted(stream.source.scan().collect()["triplet_id"])
    assert Plan.of(stream).num_left == 0


def compacted(tables: Tables) -> str:
    """The only table of these that had small files."""
    (name,) = [after.name for before, after in compact(tables, [], CompactConfig()) if before != after]
    return name


def test_what_a_rival_commits_of_a_chunk_is_left_out_and_the_rest_is_planned_again(ray_cluster, tmp_path):
    stream = capitals(tmp_path, 40)
    rival = replace(stream, config=StreamConfig(chunk_rows=30, commit_every_s=0, max_actors=1))
    mine, rivals = ([*filter(None, stream_chunks(Plan.of(one), threading.Event()))] for one in (stream, rival))
    assert len(mine) > len(rivals)

    first = commit_group(stream, mine[:2])
    theirs = commit_group(rival, rivals)
    assert 0 < theirs < 80 - first, "the rival's chunks that hold the first two are dropped"
    commit_group(stream, mine[2:])

    assert drain(Plan.of(stream)).num_left == 0
    assert_each_once(stream)


def test_two_runs_at_once_write_each_row_once_and_each_counts_what_both_have_done(ray_cluster, tmp_path, capsys):
    stream = capitals(tmp_path, 40)
    rival = replace(stream, config=StreamConfig(chunk_rows=20, commit_every_s=0, max_actors=1))
    plans = [Plan.of(stream), Plan.of(rival)]

    with ThreadPoolExecutor() as both:
        left = list(both.map(drain, plans))

    assert [plan.num_left for plan in left] == [0, 0]
    assert_each_once(stream)
    assert capsys.readouterr().err.count("scored_triplets: 80 of 80 rows") == 2


def test_what_others_commit_outside_a_streams_own_part_is_not_counted(tmp_path):
    stream = capitals(tmp_path, 40)
    plan = Plan.of(stream)
    own, others = (QueryRange(*ends) for ends in (("000", "800"), ("800", "g")))
    part = plan._replace(buckets={bucket: rows for bucket, rows in plan.buckets.items() if bucket < "800"})
    progress = Progress("s", "rows", done=0, total=sum(part.buckets.values()), tell=lambda line: None)

    assert commit_group(stream, [written(stream, others)]) > 0
    counted = count_committed(progress, part, None)
    assert progress.done == 0
    assert commit_group(stream, [written(stream, own)]) == progress.total
    count_committed(progress, part, counted)
    assert progress.done == progress.total > 0


def test_a_refusal_ends_the_run_with_its_reason_and_leaves_no_file(ray_cluster, tmp_path, capsys):
    last = next(query for number in count() if text_id(query := f"no {number}").startswith("fff"))  # after all else
    config = StreamConfig(chunk_rows=20, commit_every_s=3_600, max_actors=1)
    stream = replace(capitals(tmp_path, 40, more=(last,)), config=config)

    with pytest.raises(UserError, match=rf"\['{last}', '{last}'\] cannot be written in capitals"):
        drain(Plan.of(stream))

    assert stream.newest() is None
    assert files_under(stream) == set()
    assert capsys.readouterr().err == f"scored_triplets: 0 of 82 rows by {CAPITALS}; to go on: again\n"


def test_actors_that_keep_dying_end_the_run_and_are_told(ray_cluster, tmp_path):
    stream = Dying(**vars(capitals(tmp_path, 12, more=("kill me",))))

    with pytest.raises(OSError, match=r"died [345] times as it loaded its teacher or over the chunk of query_id "):
        drain(Plan.of(stream))

    newest = stream.newest()
    if newest is not None:  # what was done before stays, each row once
        rows = newest.scan().select("triplet_id").collect()
        assert rows["triplet_id"].n_unique() == len(rows) < 26
    healthy = Capitals(stream.source, stream.config, stream.maker, stream.command)
    assert drain(Plan.of(healthy)).num_left == 0


@dataclass(frozen=True)
class Faulty(Capitals):
    """Its actors raise at a query that begins with "fail", once for each file that is there."""

    broken: str = ""

    def capitals(self, rows: pl.DataFrame, lengths: pl.DataFrame) -> pl.DataFrame:
        if rows["query"].str.starts_with("fail").any():
            for fault in sorted(Path(self.broken).glob("*"))[:1]:
                fault.unlink()
                raise RuntimeError(f"{fault.name} is at fault")
        return super().capitals(rows, lengths)


def faulty(tmp_path: Path, faults: int) -> Faulty:
    (tmp_path / "faults").mkdir()
    for number in range(faults):
        (tmp_path / f"faults/{number}").touch()
    last = next(query for number in count() if text_id(query := f"fail {number}").startswith("fff"))  # after all else
    return Faulty(**vars(capitals(tmp_path, 40, more=(last,))), broken=str(tmp_path / "faults"))


def test_what_ray_gives_up_is_begun_again(ray_cluster, tmp_path, capsys):
    stream = faulty(tmp_path, 1)

    assert drain(Plan.of(stream)).num_left == 0

    assert_each_once(stream, leaves_files=True)
    assert re.search("[0-9]+ rows are left of what Ray gave up, and are begun again: ", capsys.readouterr().err)


@pytest.mark.slow
def test_a_fault_that_stays_is_raised_and_what_was_done_before_stays(ray_cluster, tmp_path, capsys):
    stream = faulty(tmp_path, 20)

    with pytest.raises(RayError, match="is at fault"):
        drain(Plan.of(stream))

    newest = stream.newest()
    assert newest is not None
    assert 0 < newest.num_rows() < 82
    assert f"{newest.num_rows()} of 82 rows by {CAPITALS}; to go on: again" in capsys.readouterr().err
    assert drain(Plan.of(Capitals(stream.source, stream.config, stream.maker, stream.command))).num_left == 0


class Stopped(BaseException):
    """What the program makes of a SIGTERM."""


@dataclass(frozen=True)
class Slow(Capitals):
    """Each chunk takes a while."""

    def capitals(self, rows: pl.DataFrame, lengths: pl.DataFrame) -> pl.DataFrame:
        time.sleep(0.5)
        return super().capitals(rows, lengths)


@pytest.fixture
def raises_stopped() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_finishes_and_commits_what_was_begun_and_begins_nothing(ray_cluster, tmp_path, raises_stopped, capsys):
    stream, is_over = Slow(**vars(capitals(tmp_path, 100))), threading.Event()

    def terminate_soon() -> None:
        while stream.newest() is None and not is_over.wait(0.01):
            pass
        if not is_over.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    terminating = threading.Thread(target=terminate_soon, daemon=True)
    terminating.start()
    try:
        with pytest.raises(Stopped):
            drain(Plan.of(stream))
    finally:
        is_over.set()
        terminating.join()

    newest = stream.newest()
    assert newest is not None
    assert 7 < newest.num_rows() < 100, "more than the first chunk, and by far not all"
    assert files_under(stream) == {file["path"] for file in newest.files()}
    told = capsys.readouterr().err
    assert "SIGTERM: what was begun is finished and committed" in told
    assert f"{newest.num_rows()} of 200 rows by {CAPITALS}; to go on: again" in told
    assert drain(Plan.of(Capitals(**vars(stream)))).num_left == 0
    assert_each_once(stream)
