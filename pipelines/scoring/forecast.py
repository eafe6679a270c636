"""How long a run takes, from what is left and how fast it was seen to go. Arithmetic alone.

The time is that of the whole command: its start, Ray's and the actors', then each chunk by the first actor that is
free, and the end. More actors are taken to be as fast as those that were timed, each on as much hardware.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

CHUNK_S = 0.05
"""A chunk's way through Ray."""
ROW_S = 3e-5
"""An actor's own work on a row, beside the teacher's: joins, and scores from vectors."""
END_S = 2.0
"""The last commits, and Ray's end."""


class Work(NamedTuple):
    """What is left for one pass, chunk by chunk."""

    rows: list[int]
    read: list[int]  # pairs or texts, by the teacher

    def seconds(self, seconds_per_read: float) -> list[float]:
        """Of each chunk, on one actor."""
        chunks = zip(self.rows, self.read, strict=True)
        return [CHUNK_S + ROW_S * rows + seconds_per_read * read for rows, read in chunks]


class Speed(NamedTuple):
    """As this machine, or cluster, was found to be."""

    begin_s: float  # from the command's start until Ray is there and the plan made
    plan_s: float  # of this the plan, which a run makes again after each pass
    pass_s: float = 0.0  # Ray Data's actors begin and end one pass over the chunks
    load_s: float = 0.0  # the teacher on an actor, until it is warm
    tokens: float = 0.0  # a second, of one actor among the others
    slowest: float = 0.0
    fastest: float = 0.0


class Forecast(NamedTuple):
    actors: int
    seconds: float

    def cost(self, price_per_hour: float) -> float:
        """Of all actors for the whole time, at the price of one."""
        return self.actors * self.seconds / 3600 * price_per_hour


def makespan(seconds: Sequence[float], actors: int) -> float:
    """Until the last chunk is done, each taken in order by the first actor that is free."""
    free = [0.0] * max(1, min(actors, len(seconds)))
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def forecast(
    works: Sequence[Work], actors: int, speed: Speed, tokens_per_read: float, checked_rows: int = 0
) -> Forecast:
    """The whole command's time with so many actors.

    Args:
        works: the passes, one after the other, in chunks for so many actors.
        checked_rows: that a run on a new engine scores again before, on one actor; rows like the last pass's.
    """
    seconds, per_read = speed.begin_s + END_S, tokens_per_read / speed.tokens if speed.tokens else 0.0
    for work in works:
        if work.rows:
            seconds += speed.pass_s + speed.load_s * any(work.read) + speed.plan_s
            seconds += makespan(work.seconds(per_read), actors)
    if checked_rows and sum(works[-1].rows):
        read = checked_rows * sum(works[-1].read) / sum(works[-1].rows)
        seconds += speed.pass_s + speed.load_s + read * per_read
    return Forecast(actors, seconds)
