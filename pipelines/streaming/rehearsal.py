"""As many actors as a run would have, each with what it claims: asked directly, and nothing is read or written.

All are made before one is asked, so that they compete for the machine as a run's actors do.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.streaming.config import StreamConfig
from pipelines.streaming.pipeline import claim, num_actors, threads

LATE_S = 60.0
"""So long is waited for the other actors after the first one: where others work on the cluster, some never come."""


class Rehearsed:
    """What was made on an actor; a UserError comes back as its text, as ChunkActor's does."""

    def __init__(self, make: Callable[[int | None], Any], threads: int | None) -> None:
        self.make, self.threads, self.made = make, threads, None

    def call(self, method: str, *given: Any) -> tuple[Any, str]:
        try:
            if self.made is None:
                self.made = self.make(self.threads)
            return getattr(self.made, method)(*given), ""
        except UserError as error:
            return None, str(error)


class Cast:
    """The actors that came."""

    def __init__(self, actors: list[Any]) -> None:
        self._actors = actors

    def __len__(self) -> int:
        return len(self._actors)

    def ask(self, method: str, given: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What each actor's method returns, all at once; the i-th is given the i-th, as far as there are any."""
        asked = zip(self._actors, given, strict=False)
        answers = ray.get([actor.call.remote(method, *arguments) for actor, arguments in asked])
        for _, refused in answers:
            if refused:
                raise UserError(refused)
        return [answer for answer, _ in answers]


@contextmanager
def rehearsal(config: StreamConfig, make: Callable[[int | None], Any], ready: str) -> Iterator[Cast]:
    """The cast, with Ray connected. On each actor `make` is called with its threads; it is ready when `ready` returns.

    Raises:
        UserError: one could not be made.
    """
    wanted = num_actors(config)
    remote: Any = ray.remote(**claim(config))(Rehearsed)
    actors: list[Any] = [remote.remote(make, threads(config)) for _ in range(wanted)]
    try:
        waiting = {actor.call.remote(ready): actor for actor in actors}
        began = time.monotonic()
        ray.wait(list(waiting))
        came, late = ray.wait(list(waiting), num_returns=wanted, timeout=time.monotonic() - began + LATE_S)
        if late:
            tell(f"{len(came)} of {wanted} actors came: others work on this cluster, too")
        cast = Cast([waiting[one] for one in came])
        cast.ask(ready, [()] * len(cast))
        yield cast
    finally:
        for actor in actors:
            ray.kill(actor)
