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
    """What is made on an actor. A UserError comes back as its text, as from ChunkActor."""

    def __init__(self, make: Callable[[int | None], Any], threads: int | None) -> None:
        self._make, self._threads, self.made = make, threads, None

    def make(self) -> tuple[float, str]:
        """The seconds that it took."""
        started = time.monotonic()
        try:
            self.made = self._make(self._threads)
        except UserError as error:
            return 0.0, str(error)
        return time.monotonic() - started, ""

    def call(self, method: str, *given: Any) -> tuple[Any, str]:
        """A method of it."""
        try:
            return getattr(self.made, method)(*given), ""
        except UserError as error:
            return None, str(error)


class Cast:
    """The actors that came, and how long they took to make what they are asked by."""

    def __init__(self, actors: list[Any], seconds: float) -> None:
        self._actors, self.seconds = actors, seconds

    def __len__(self) -> int:
        return len(self._actors)

    def ask(self, method: str, given: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What each actor's method returns, all at once; the i-th is given the i-th, as far as there are any."""
        asked = zip(self._actors, given, strict=False)
        return _answers([actor.call.remote(method, *arguments) for actor, arguments in asked])


def _answers(asked: Sequence[Any]) -> list[Any]:
    answers = ray.get(list(asked))
    for _, refused in answers:
        if refused:
            raise UserError(refused)
    return [answer for answer, _ in answers]


@contextmanager
def rehearsal(config: StreamConfig, make: Callable[[int | None], Any]) -> Iterator[Cast]:
    """The cast, with Ray connected; on each actor `make` was called with the actor's threads.

    Raises:
        UserError: one could not be made.
    """
    wanted = num_actors(config)
    remote: Any = ray.remote(**claim(config))(Rehearsed)
    actors: list[Any] = [remote.remote(make, threads(config)) for _ in range(wanted)]
    try:
        making = {actor.make.remote(): actor for actor in actors}
        began = time.monotonic()
        ray.wait(list(making))
        came, late = ray.wait(list(making), num_returns=wanted, timeout=time.monotonic() - began + LATE_S)
        if late:
            tell(f"{len(came)} of {wanted} actors came: others work on this cluster, too")
        yield Cast([making[one] for one in came], max(_answers(came)))
    finally:
        for actor in actors:
            ray.kill(actor)
