"""Progress on stderr: how much is done, how fast, and an honest time to go."""

import sys
import time


class Progress:
    """Counts units of work; prints a line at most every `every_s` seconds.

    The rate is what was done since the first advance over the time since then: start-up is not work, and work that
    an earlier run did is not speed. No time to go is told before there is a rate.
    """

    def __init__(self, stage: str, unit: str, *, done: int, total: int, every_s: float = 5.0) -> None:
        self.stage, self.unit, self.done, self.total = stage, unit, done, total
        self._every_s = every_s
        self._first_done: int | None = None
        self._first_at = self._printed_at = 0.0

    def advance(self, units: int) -> None:
        """Add finished work and print, unless a line was printed just now; the end is always printed."""
        now = time.monotonic()
        self.done += units
        if self._first_done is None:
            self._first_done, self._first_at = self.done, now
        if now - self._printed_at >= self._every_s or self.done >= self.total:
            self._printed_at = now
            print(self.told() + self._rate(now), file=sys.stderr, flush=True)

    def told(self) -> str:
        """`score: 38,112,004 of 40,000,000 rows`."""
        return f"{self.stage}: {self.done:,} of {self.total:,} {self.unit}"

    def _rate(self, now: float) -> str:
        since = self.done - (self._first_done or 0)
        if since <= 0 or now <= self._first_at:
            return ""
        rate = since / (now - self._first_at)
        return f", {rate:,.0f} {self.unit}/s, {_duration((self.total - self.done) / rate)} to go"


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d} h" if hours else f"{minutes}:{left:02d} min"
