"""From what is left to committed rows: stream the chunks, commit their files in groups by compare-and-set.

A file is committed only if nobody has added rows by the same maker in its chunk's range since the chunk was read; an
overtaken chunk is dropped, and the next plan finds what is still missing of it.
"""

import time
from collections.abc import Iterator
from typing import Any

import polars as pl
from ray.exceptions import RayError

from pipelines.stage.errors import describe
from pipelines.stage.finishing import finishing
from pipelines.stage.progress import Progress, tell
from pipelines.storage import QueryRange, TableVersion, VersionMoved, commit
from pipelines.storage.writing import remove_files
from pipelines.streaming.pipeline import Chunk, stream_chunks
from pipelines.streaming.stream import Plan, Stream

LOOKED_EVERY_S = 10.0
"""At least so far apart a driver that has nothing to commit looks what others have committed."""


def drain(left: Plan) -> Plan:
    """Stream and commit, then plan again, until nothing is left or a whole pass brings nothing; the last plan.

    An error of Ray's, as where a node is lost at a bad moment, or of an actor ends a pass: the next one goes on with
    actors of its own. Files that were on their way are of no version then, and the work in them is done again.

    Raises:
        RayError: that ended a pass which brought nothing.
    """
    while left.num_left:
        failure = _pass(left)
        before, left = left, Plan.of(left.stream)
        if left.num_left >= before.num_left:
            if failure:
                _tell_how_to_go_on(left.stream, _progress(left))
                raise failure
            break
        if failure and left.num_left:
            tell(f"{left.num_left:,} rows are left of what Ray gave up, and are begun again: {describe(failure)}")
    return left


def _pass(left: Plan) -> RayError | None:
    """Send what is left through the pipeline once; commit what comes out, in groups; what ended it early, if so."""
    stream, progress, counted = left.stream, _progress(left), left.newest
    waiting: list[Chunk] = []
    failures: list[RayError] = []
    looked_at = time.monotonic()
    every_s = stream.config.commit_every_s
    try:
        with finishing() as asked:
            for chunk in _until_one_fails(stream_chunks(left, asked), failures):
                waiting += [chunk] if chunk else []
                progress.show_unwritten(sum(one.file.num_rows for one in waiting))
                since = time.monotonic() - looked_at
                if (waiting and asked.is_set()) or since >= (every_s if waiting else max(every_s, LOOKED_EVERY_S)):
                    group, waiting = waiting, []  # an interrupted commit may stand: its files must, too
                    commit_group(stream, group)
                    counted = count_committed(progress, left, counted)
                    looked_at = time.monotonic()
            group, waiting = waiting, []
            commit_group(stream, group)
            count_committed(progress, left, counted)
    except BaseException:
        remove_files(stream.source.tables, stream.table, [chunk.file for chunk in waiting])
        _tell_how_to_go_on(stream, progress)
        raise
    return failures[0] if failures else None


def count_committed(progress: Progress, left: Plan, counted: TableVersion | None) -> TableVersion | None:
    """Add what was committed of the plan after a version, by this driver and by others; the newest version."""
    stream, newest = left.stream, left.stream.newest()
    if newest is None or newest == counted:
        return newest
    ranges = left.chunks(1)
    brought = sum(
        file["num_records"] or 0
        for file in _added(stream, newest, counted)
        if _lies_within(file, stream.id_column, QueryRange(ranges[0].lower, ranges[-1].upper))
    )
    if brought:
        progress.advance(min(brought, progress.total - progress.done))  # others may have other triplets, too
    return newest


def _until_one_fails(chunks: Iterator[Chunk | None], failures: list[RayError]) -> Iterator[Chunk | None]:
    """The chunks that come before an error of Ray's, which is added to `failures`."""
    try:
        yield from chunks
    except RayError as error:
        failures.append(error)


def _progress(plan: Plan) -> Progress:
    return Progress(plan.stream.table.table_name(), "rows", done=plan.num_done, total=plan.num_total)


def _tell_how_to_go_on(stream: Stream, progress: Progress) -> None:
    tell(f"{progress.told()} by {stream.maker}; to go on: {stream.command}")


def commit_group(stream: Stream, chunks: list[Chunk]) -> int:
    """Commit the written chunks that no other run has overtaken; returns the rows committed."""
    tables = stream.source.tables
    while True:
        base = stream.newest()
        overtaken = _overtaken(stream, chunks, base) if base else []
        fresh = [chunk for chunk in chunks if chunk not in overtaken]
        if fresh:
            counts = pl.DataFrame([chunk.counts for chunk in fresh]).sum().row(0, named=True)
            record, files = stream.record(**counts), [chunk.file for chunk in fresh]
            try:
                commit(tables, stream.table, files, record, mode="append", expected=base)
            except VersionMoved:
                continue
        remove_files(tables, stream.table, [chunk.file for chunk in overtaken])
        return sum(chunk.file.num_rows for chunk in fresh)


def _overtaken(stream: Stream, chunks: list[Chunk], newest: TableVersion) -> list[Chunk]:
    """Those in whose range rows by the same maker were added after the version they were read against."""
    added = {base: _added(stream, newest, base) for base in {chunk.base for chunk in chunks} - {newest}}
    return [
        chunk
        for chunk in chunks
        if any(_may_hold(file, stream.id_column, *chunk.id_range) for file in added.get(chunk.base, ()))
    ]


def _added(stream: Stream, newest: TableVersion, base: TableVersion | None) -> list[dict[str, Any]]:
    """The files that brought rows by the stream's maker after `base`; a compaction since then brings none."""
    return [
        file for file in newest.added_after(base) if _may_hold(file, stream.maker_column, stream.maker, stream.maker)
    ]


def _may_hold(file: dict[str, Any], column: str, lower: str, upper: str) -> bool:
    """Whether a file's values may lie between two; another program's may come without statistics."""
    least, most = file.get(f"min.{column}"), file.get(f"max.{column}")
    return least is None or most is None or (least <= upper and most >= lower)


def _lies_within(file: dict[str, Any], column: str, id_range: QueryRange) -> bool:
    """Whether all of a file's values lie in a range; another program's may come without statistics."""
    least, most = file.get(f"min.{column}"), file.get(f"max.{column}")
    return least is None or most is None or (id_range.lower <= least and most < id_range.upper)
