"""A chunk's way through the cluster: three operators of Ray Data, over a pool of actors. No commits in here.

    ranges --read_chunk (tasks)--> rows --ChunkActor (GPU where there is one)--> rows --write_chunk (tasks)--> files

So the actors never wait for I/O, and only small rows reach the driver. Between the operators a chunk is one value of
one row of Ray's: a row cannot be split over blocks, and an empty chunk still arrives.
"""

import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import polars as pl
import ray
import ray.data

from pipelines.stage.cluster import check_there_is, named_cluster
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import DataFile, QueryRange, TableVersion, write_file
from pipelines.storage.lineage import engine
from pipelines.streaming.config import StreamConfig
from pipelines.streaming.stream import Plan, Stream
from pipelines.streaming.watch import CLOSED, watched

Row = dict[str, Any]
NO_FILE = DataFile("", 0, 0, "")
NO_ROWS = pl.DataFrame()

LOOKED_EVERY_S = 0.2

IO_CPUS = 0.05
"""What a read or write task claims of a CPU, so that nearly all of them are left to the actors."""


class Chunk(NamedTuple):
    """A range of ids on its way."""

    id_range: QueryRange
    base: TableVersion | None = None  # of the table, against which it was read
    frames: tuple[pl.DataFrame, ...] = ()  # what was read, then what the actor made of it
    file: DataFile = NO_FILE
    counts: dict[str, Any] | None = None  # of the file's rows

    @classmethod
    def of(cls, row: Row) -> "Chunk":
        """Raises UserError when an actor refused its work, OSError when the watch ended the run."""
        if row["refused"]:
            raise UserError(row["refused"])
        if row["died"]:
            raise OSError(row["died"])
        return cls(*pickle.loads(row["chunk"]))

    def row(self) -> Row:
        return {"chunk": pickle.dumps(tuple(self)), "refused": "", "died": ""}


def read_unless_closed(row: Row, stream: Stream, watch: Any) -> Row:
    """What is left of the chunk; nothing where the run is to end."""
    if ray.get(watch.is_closed.remote()):
        return Chunk.of(row)._replace(frames=(NO_ROWS,)).row()
    return read_chunk(row, stream)


def read_chunk(row: Row, stream: Stream) -> Row:
    """What is left of the chunk against the newest version, which goes along: the commit looks at what came after."""
    chunk, newest = Chunk.of(row), stream.newest()
    order = dict.fromkeys([stream.id_column, *stream.key])
    rows = stream.left(chunk.id_range, newest).collect(engine="streaming").sort(list(order))
    beside = stream.beside(rows, chunk.id_range, newest) if len(rows) else ()
    return chunk._replace(base=newest, frames=(rows, *beside)).row()


class ChunkActor:
    """The stream's actor, made for the first chunk that has rows.

    A UserError does not raise here, where Ray would restart the actor for ever: the chunk comes back with `refused`
    saying why, and the driver raises.
    """

    def __init__(self, stream: Stream, threads: int | None, watch: Any) -> None:
        self._make, self._watch, self._is_fresh = cache(partial(stream.actor, threads)), watch, True
        address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._where = f"process {os.getpid()} on {address}"

    def __call__(self, row: Row) -> Row:
        chunk = Chunk.of(row)
        if not len(chunk.frames[0]):
            return row
        why = ray.get(self._watch.began.remote(tuple(chunk.id_range), self._where, self._is_fresh))
        if why:
            left = chunk._replace(frames=(NO_ROWS,)).row()
            return left if why == CLOSED else left | {"died": why}
        row = work(chunk, self._make)
        self._is_fresh = False
        self._watch.ended.remote(tuple(chunk.id_range), self._where)
        return row


def work(chunk: Chunk, make: Callable[[], Callable[..., pl.DataFrame]]) -> Row:
    """The chunk with what an actor, once made, makes of its frames; or why it refuses."""
    try:
        return chunk._replace(frames=(make()(*chunk.frames),)).row()
    except UserError as error:
        return chunk._replace(frames=(NO_ROWS,)).row() | {"refused": str(error)}


def write_chunk(row: Row, stream: Stream) -> Row:
    """Validate the chunk's rows and write them as one file, not yet part of any version."""
    if row["refused"] or row["died"]:
        return row
    chunk = Chunk.of(row)
    if not len(chunk.frames[0]):
        return chunk._replace(frames=()).row()
    file = write_file(stream.source.tables, stream.table, chunk.frames[0])
    counts = chunk.frames[0].select(rows=pl.len(), **stream.counts).row(0, named=True)
    return chunk._replace(frames=(), file=file, counts=counts).row()


def stream_chunks(plan: Plan, asked: threading.Event) -> Iterator[Chunk | None]:
    """Send what is left through the operators; yields each chunk that has rows, in a file of no version yet.

    None in between, when none has come for a moment: there may be something to commit.

    Args:
        asked: once it is set, only chunks that were begun are finished.
    """
    chunks = _stream(plan.stream, plan.chunks(num_actors(plan.stream.config)), asked)
    return (chunk for chunk in chunks if chunk is None or chunk.file.num_rows)


def empty_pass(stream: Stream) -> None:
    """What a run does around its chunks: one without rows goes to each actor. Writes nothing."""
    for _ in _stream(stream, [QueryRange("g", "g")] * num_actors(stream.config), threading.Event()):
        pass


def _stream(stream: Stream, id_ranges: list[QueryRange], asked: threading.Event) -> Iterator[Chunk | None]:
    """The ranges through the operators, with the file that each became."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [Chunk(id_range).row() for id_range in id_ranges]
    few = max(1, num_actors(stream.config) // 2)  # each costs a process; reading is quick beside the actors' work
    io: dict[str, Any] = {"num_cpus": IO_CPUS, "concurrency": few}
    given = ray.data.from_items(rows, override_num_blocks=len(rows))
    with watched(stream.id_column) as watch:
        reading = {"stream": stream, "watch": watch}
        read = given.map(read_unless_closed, fn_kwargs=reading, **io)  # type: ignore[arg-type]
        made = _worked_on(read, stream, len(rows), watch)
        written = made.map(write_chunk, fn_kwargs={"stream": stream}, **io)  # type: ignore[arg-type]
        yield from _begun_at_least(_as_they_come(written), watch, asked)


def _begun_at_least(chunks: Iterator[Chunk | None], watch: Any, asked: threading.Event) -> Iterator[Chunk | None]:
    """All chunks; once it is asked for, none but those that were begun by then."""
    arrived, begun = set[QueryRange](), None
    for chunk in chunks:
        if chunk is not None:
            arrived.add(chunk.id_range)
        yield chunk
        if asked.is_set() and begun is None:
            begun = ray.get(watch.close.remote())
            tell("SIGTERM: what was begun is finished and committed; the next one stops at once")
        if begun is not None and begun <= arrived:
            return


def _as_they_come(written: ray.data.Dataset) -> Iterator[Chunk | None]:
    """The chunks; None where none has come for a moment. Ray Data is waited for in a thread of its own."""
    came: SimpleQueue[Row | BaseException | None] = SimpleQueue()
    ended = threading.Event()

    def wait() -> None:
        try:
            for row in written.iter_rows():
                came.put(row)
                if ended.is_set():
                    return
            came.put(None)
        except BaseException as error:  # raised where the chunks are taken
            came.put(error)

    threading.Thread(target=wait, daemon=True).start()
    try:
        while True:
            try:
                row = came.get(timeout=LOOKED_EVERY_S)
            except Empty:
                yield None
                continue
            if row is None:
                return
            if isinstance(row, BaseException):
                raise row
            yield Chunk.of(row)
    finally:
        ended.set()


def work_once(stream: Stream, *frames: pl.DataFrame) -> pl.DataFrame:
    """What an actor of this cluster makes of a chunk that holds these frames; nothing is written."""
    given = Chunk(QueryRange("", ""), frames=frames).row()
    with watched(stream.id_column) as watch:
        return Chunk.of(_worked_on(ray.data.from_items([given]), stream, 1, watch).take_all()[0]).frames[0]


def _worked_on(chunks: ray.data.Dataset, stream: Stream, num_chunks: int, watch: Any) -> ray.data.Dataset:
    """The chunks through a pool of actors: as many as there is room and work for, none of them missed when it dies.

    In a fixed-size pool a dead actor would keep its slot (Ray issue 62746), so the pool may shrink to one.
    """
    claimed = claim(stream.config)
    size = min(num_actors(stream.config), num_chunks)
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=2)
    given = (stream, threads(stream.config), watch)
    return chunks.map(ChunkActor, compute=pool, fn_constructor_args=given, **claimed)  # type: ignore[arg-type]


def claim(config: StreamConfig) -> dict[str, Any]:
    """What Ray is asked for, for one actor. Raises UserError where this machine can never have it."""
    on_gpu = has_gpu(config)
    kind, needed = ("GPU", config.num_gpus) if on_gpu else ("CPU", config.num_cpus)
    told, field = f"an actor needs {needed:g} {kind}s", f"score.num_{kind.lower()}s"
    check_there_is(kind, needed, _resources().get(kind, 0), told, field)
    return {"num_gpus": config.num_gpus} if on_gpu else {"num_cpus": config.num_cpus - IO_CPUS}


def threads(config: StreamConfig) -> int | None:
    """That an actor computes with; None on a GPU."""
    return None if has_gpu(config) else config.num_cpus


def has_gpu(config: StreamConfig) -> bool:
    """Whether the actors of this run go to GPUs."""
    return config.use_gpu if config.use_gpu is not None else _resources().get("GPU", 0) > 0


def num_actors(config: StreamConfig) -> int:
    """How many actors there can be: as many as there is room for now, at least one, at most `max_actors`.

    A named cluster may bring more nodes up, from none on: there it is `max_actors`, where that is given.
    """
    if config.max_actors and named_cluster():
        return config.max_actors
    resources = _resources()
    room = resources.get("GPU", 0) / config.num_gpus if has_gpu(config) else resources.get("CPU", 0) / config.num_cpus
    return max(1, min(int(room), config.max_actors or int(room)))


def device(config: StreamConfig) -> str:
    """The kind of device that the actors compute on; where no GPU is up yet, the first is waited for."""
    if not has_gpu(config):
        return f"{engine().machine} {engine().processor}"
    if not _resources().get("GPU"):
        tell("no GPU is up yet: waiting for the first")
        first: Any = ray.remote(num_gpus=config.num_gpus)(bool).remote()
        ray.get(first)
    accelerators = sorted(name for name in _resources() if name.startswith("accelerator_type:"))
    return ",".join(accelerators) or "GPU"


def _resources() -> dict[str, float]:
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]
