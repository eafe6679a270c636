"""Progress, on stderr if nowhere else: how much is done, how fast, and an honest time to go."""

import sys
import time
from collections.abc import Callable


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Progress:
    """Counts units of work; tells a line at most every `every_s` seconds.

    The rate is what was done since the start over the time since then: start-up is not work, and work that an earlier
    run did is not speed. No time to go is told before there is a rate.

    Args:
        said: how much is done, from the fields stage, unit, done and total.
        rate_unit: what the rate counts, where that is not the unit of work itself.
        tell: takes each line.
    """

    def __init__(
        self,
        stage: str,
        unit: str,
        *,
        done: int,
        total: int,
        every_s: float = 5.0,
        said: str = "{stage}: {done:,} of {total:,} {unit}",
        rate_unit: str | None = None,
        tell: Callable[[str], object] = _print,
    ) -> None:
        self.stage, self.unit, self.done, self.total = stage, unit, done, total
        self._every_s, self._said, self._rate_unit, self._tell = every_s, said, rate_unit or unit, tell
        self._started: tuple[int, float] | None = None  # units done then, when
        self._rated = 0  # what the rate counts, since the start
        self._told_at = 0.0

    def start(self) -> None:
        """What is done by now was start-up. The first advance starts by itself, after its own units."""
        self._started = self.done, time.monotonic()

    def advance(self, units: int, *, rated: int | None = None, note: str = "") -> None:
        """Add finished work and tell, unless a line was told just now; the end is always told.

        Args:
            rated: how much of `rate_unit` these units are; else the units themselves.
            note: stands after what is done, as in `distill: step 7 of 90, loss 0.3, 512 triplets/s`.
        """
        self.done += units
        if self._started is None:
            self.start()
        else:
            self._rated += units if rated is None else rated
        now = time.monotonic()
        if now - self._told_at >= self._every_s or self.done >= self.total:
            self._told_at = now
            self._tell(self.told() + (f", {note}" if note else "") + self._rate(now))

    def told(self) -> str:
        """`score: 38,112,004 of 40,000,000 rows`."""
        return self._said.format(stage=self.stage, unit=self.unit, done=self.done, total=self.total)

    def _rate(self, now: float) -> str:
        assert self._started is not None, "advance starts"
        first_done, first_at = self._started
        elapsed, since = now - first_at, self.done - first_done
        if since <= 0 or elapsed <= 0:
            return ""
        to_go = (self.total - self.done) * elapsed / since
        return f", {self._rated / elapsed:,.0f} {self._rate_unit}/s, {_duration(to_go)} to go"


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d} h" if hours else f"{minutes}:{left:02d} min"
