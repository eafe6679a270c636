"""Which actor works on which chunk: one that keeps dying ends the run, one that gets nowhere is named.

    ChunkActor --began, made, ended--> Watch, an actor beside the driver <--silent, close-- a thread of the driver

Ray starts a dead actor again and gives it the same chunk, for ever; where no actor comes, Ray Data waits in silence.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.stage.progress import tell
from pipelines.storage import QueryRange

MAX_STARTS = 3
"""So often may a process die with a chunk before it has made what it works with: that is no node taken away."""

MAX_ATTEMPTS = 5
"""So often may it die over the same chunk at all."""

SILENT_S = 600.0
"""A chunk that takes so long, and five times as long as any before it, is told; then every so often."""

ASKED_EVERY_S = 20.0
LOOKED_EVERY_S = 0.2

CLOSED = "closed"
"""In place of a reason: the run is to end, and nothing more is begun."""


@dataclass
class Attempt:
    """One process with one chunk."""

    where: str
    has_made: bool  # what it works with: a teacher
    began: float = field(default_factory=time.monotonic)


class Watch:
    """What the actors tell. Times are seconds of this process."""

    def __init__(self) -> None:
        self._open: dict[QueryRange, list[Attempt]] = {}
        self._longest_s, self._is_closed = 0.0, False
        self._heard = self._told = time.monotonic()

    def began(self, id_range: QueryRange, where: str, has_made: bool) -> str:
        """An actor has a chunk; returns why it should not begin, or CLOSED, "" where it should."""
        if self._is_closed:
            return CLOSED
        attempts = self._open.setdefault(id_range, [])
        starts = attempts[-MAX_STARTS:]
        if len(starts) == MAX_STARTS and not any(attempt.has_made for attempt in starts):
            return _died(starts, "before the teacher was loaded", "fewer actors at once (score.max_actors)")
        if len(attempts) == MAX_ATTEMPTS:
            return _died(attempts, f"over the chunk {_named(id_range)}", "smaller batches (score.batch_tokens)")
        attempts.append(Attempt(where, has_made))
        self._heard = time.monotonic()
        return ""

    def made(self, id_range: QueryRange) -> None:
        """The actor with this chunk has what it works with."""
        self._open[id_range][-1].has_made = True

    def ended(self, id_range: QueryRange) -> None:
        """The chunk is done."""
        self._heard = time.monotonic()
        self._longest_s = max(self._longest_s, self._heard - self._open.pop(id_range)[-1].began)

    def close(self) -> None:
        """Nothing more is to be begun."""
        self._is_closed = True

    def is_closed(self) -> bool:
        return self._is_closed

    def silent(self) -> list[str]:
        """A line for each chunk that takes too long, or for all where nobody has one."""
        now, limit = time.monotonic(), max(SILENT_S, 5 * self._longest_s)
        if now - self._told < SILENT_S:
            return []
        late = [(chunk, attempts[-1]) for chunk, attempts in self._open.items() if now - attempts[-1].began >= limit]
        lines = [
            f"no progress: the chunk {_named(chunk)} is with {attempt.where} since {(now - attempt.began) / 60:.0f} min"
            f"{'' if attempt.has_made else ', which has not loaded its teacher'}; Ray's logs there tell more, and "
            "killing that process gives the chunk to another"
            for chunk, attempt in late
        ]
        if not self._open and now - self._heard >= limit:
            lines = [
                f"no progress: no actor has had a chunk for {(now - self._heard) / 60:.0f} min; `ray status` tells "
                "whether the cluster has room for one, or waits for a node"
            ]
        self._told = now if lines else self._told
        return lines


def _named(id_range: QueryRange) -> str:
    return f"of query ids from {id_range.lower or 'the first'} to {id_range.upper or 'the last'}"


def _died(attempts: list[Attempt], when: str, smaller: str) -> str:
    where = ", ".join(dict.fromkeys(attempt.where for attempt in attempts))
    return (
        f"the process that computes died {len(attempts)} times {when} ({where}): out of memory, killed from outside, "
        "or a crash of a library; Ray's logs there (session_latest/logs) and the system's tell which. If it is memory, "
        f"take {smaller}"
    )


@contextmanager
def watched(asked: threading.Event) -> Iterator[Any]:
    """A Watch that chunk actors tell, with Ray connected; meanwhile what is silent is told.

    Args:
        asked: once it is set, only what was begun is finished.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote: Any = ray.remote(num_cpus=0)(Watch)
    watch, ended = remote.options(scheduling_strategy=here).remote(), threading.Event()
    looking = threading.Thread(target=_look, args=(watch, ended, asked), daemon=True)
    looking.start()
    try:
        yield watch
    finally:
        ended.set()
        looking.join()
        ray.kill(watch)


def _look(watch: Any, ended: threading.Event, asked: threading.Event) -> None:
    closed, at = False, time.monotonic()
    while not ended.wait(LOOKED_EVERY_S):
        if asked.is_set() and not closed:
            closed = True
            ray.get(watch.close.remote())
            tell("SIGTERM: what is under way is finished and committed; the next one stops at once")
        if time.monotonic() - at >= ASKED_EVERY_S:
            at = time.monotonic()
            for line in ray.get(watch.silent.remote()):
                tell(line)
