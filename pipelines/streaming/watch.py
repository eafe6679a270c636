"""Which actor works on which chunk: one that keeps dying ends the run, one that gets nowhere is named.

    ChunkActor --began, ended--> Watch, an actor beside the driver <--close, silent-- the driver

Ray starts a dead actor again and gives it the same chunk, for ever; where no actor comes, Ray Data waits in silence.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.stage.progress import tell

MAX_FRESH = 3
"""So often in a row may processes die that had done no chunk before this one: they load their teacher with it."""

MAX_ATTEMPTS = 5
"""So often may any die over the same chunk: nodes are taken away, too."""

SILENT_S = 600.0
"""A chunk that takes so long, and five times as long as any before it, is told; then every so often."""

ASKED_EVERY_S = 20.0
ANSWERS_IN_S = 60.0  # a busy machine included

Bounds = tuple[str, str]
"""Of a chunk's QueryRange, as a plain pair: so this actor starts without the tables' libraries."""

CLOSED = "closed"
"""In place of a reason: the run is to end, and nothing more is begun."""


@dataclass
class Attempt:
    """One process with one chunk."""

    where: str
    is_fresh: bool  # it has done no chunk yet
    began: float


class Watch:
    """What the actors tell. Times are seconds of this process; ids are those of the stream's `id_column`."""

    def __init__(self, id_column: str) -> None:
        self._id_column = id_column
        self._open: dict[Bounds, list[Attempt]] = {}
        self._begun = set[Bounds]()
        self._longest_s, self._is_closed = 0.0, False
        self._heard = self._told = monotonic()

    def began(self, id_range: Bounds, where: str, is_fresh: bool) -> str:
        """An actor has a chunk; returns why the run should end, CLOSED where the chunk should be left, else ""."""
        if self._is_closed:
            return CLOSED
        self._begun.add(id_range)
        attempts = self._open.setdefault(id_range, [])
        last = attempts[-MAX_FRESH:]
        if len(attempts) >= MAX_ATTEMPTS or (len(last) == MAX_FRESH and all(one.is_fresh for one in last)):
            return self._died(id_range, attempts)
        self._heard = monotonic()
        attempts.append(Attempt(where, is_fresh, self._heard))
        return ""

    def ended(self, id_range: Bounds, where: str) -> None:
        """The chunk is done by this process; what is heard of one that another has by now is late."""
        attempts = self._open.get(id_range)
        if attempts and attempts[-1].where == where:
            self._heard = monotonic()
            self._longest_s = max(self._longest_s, self._heard - attempts[-1].began)
            del self._open[id_range]

    def close(self) -> set[Bounds]:
        """Nothing more is to be begun; returns the chunks that were."""
        self._is_closed = True
        return self._begun

    def is_closed(self) -> bool:
        return self._is_closed

    def silent(self) -> list[str]:
        """A line for each chunk that takes too long, or for all where nobody has one."""
        now, limit = monotonic(), max(SILENT_S, 5 * self._longest_s)
        if now - self._told < SILENT_S:
            return []
        lines = [
            f"no progress: {self._named(chunk)} was begun {(now - attempts[-1].began) / 60:.0f} min ago by "
            f"{attempts[-1].where}; Ray's logs there tell more. If that process is alive, killing it gives the chunk "
            "to another; if it is not, `ray status` tells whether there is room for one"
            for chunk, attempts in self._open.items()
            if now - attempts[-1].began >= limit
        ]
        if not self._open and now - self._heard >= limit:
            lines = [
                f"no progress: no actor has had a chunk for {(now - self._heard) / 60:.0f} min; `ray status` tells "
                "whether the cluster has room for one or waits for a node, Ray's logs what reads and writes chunks do"
            ]
        self._told = now if lines else self._told
        return lines

    def _died(self, id_range: Bounds, attempts: list[Attempt]) -> str:
        where = ", ".join(dict.fromkeys(attempt.where for attempt in attempts))
        return (
            f"the process that computes died {len(attempts)} times as it loaded its teacher or over "
            f"{self._named(id_range)} ({where}): out of memory, killed from outside, or a crash of a library; Ray's "
            "logs there (session_latest/logs) and the system's tell which. If it is memory, take fewer actors at once "
            "(score.max_actors) or smaller batches (score.batch_tokens)"
        )

    def _named(self, id_range: Bounds) -> str:
        return f"the chunk of {self._id_column} {id_range[0] or 'the first'} to {id_range[1] or 'the last'}"


@contextmanager
def watched(id_column: str) -> Iterator[Any]:
    """A Watch that chunk actors tell, with Ray connected; meanwhile what is silent is told.

    It is started again if it dies, and has then forgotten what was before.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Watch)
    watch, ended = remote.options(scheduling_strategy=here).remote(id_column), threading.Event()
    asking = threading.Thread(target=_ask, args=(watch, ended), daemon=True)
    asking.start()
    try:
        yield watch
    finally:
        ended.set()
        ray.kill(watch)


def _ask(watch: Any, ended: threading.Event) -> None:
    while not ended.wait(ASKED_EVERY_S):
        try:
            lines = ray.get(watch.silent.remote(), timeout=ANSWERS_IN_S)
        except GetTimeoutError:
            continue
        except RayError as error:
            if not ended.is_set():
                tell(f"chunks without progress are not told any more: {error}")
            return
        for line in lines:
            tell(line)
