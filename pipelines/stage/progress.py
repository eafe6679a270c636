"""Progress, on stderr if nowhere else: how much is done, how fast, and an honest time to go.

In a log it is a line every few seconds; on a terminal one line that is rewritten, below whatever else is printed.
"""

import sys
import time
from collections.abc import Callable

from pipelines.stage.printable import printable
from pipelines.stage.terminal import Terminal

TOLD_EVERY_S = 5.0
SHOWN_EVERY_S = 0.2


class Passing(str):
    """A line that the next one of its kind replaces, where lines can be replaced."""


def tell(line: str) -> None:
    """For what a user should read at once."""
    terminal = _terminal()
    if terminal and isinstance(line, Passing):
        terminal.show(printable(line))
    else:
        if terminal:
            terminal.show("")
        print(printable(line, kept="\n\t"), file=sys.stderr, flush=True)


def _terminal() -> Terminal | None:
    return sys.stderr if isinstance(sys.stderr, Terminal) else None


class Progress:
    """Counts units of work; tells a line every few seconds, and at the end.

    The rate is what was done since the start over the time since then: start-up is not work, and work that an earlier
    run did is not speed. No time to go is told before there is a rate.
    """

    def __init__(
        self,
        stage: str,
        unit: str,
        *,
        done: int,
        total: int,
        said: str = "{stage}: {done:,} of {total:,} {unit}",
        rated_in: str | None = None,  # what the rate counts, where that is not the unit
        tell: Callable[[str], object] = tell,
    ) -> None:
        self.stage, self.unit, self.done, self.total = stage, unit, done, total
        self._said, self._rated_in, self._tell = said, rated_in or unit, tell
        self._started: tuple[int, float] | None = None  # units done then, and when
        self._rated, self._told_at = 0, 0.0

    def start(self) -> None:
        """What is done by now was start-up. Without this call it is the first advance."""
        self._started = self.done, time.monotonic()

    def advance(self, units: int, *, rated: int | None = None, suffix: str = "") -> None:
        """Add finished units, which are `rated` of what the rate counts; `suffix` ends the line."""
        self.done += units
        if self._started is None:
            self.start()
        else:
            self._rated += units if rated is None else rated
        now, is_last = time.monotonic(), self.done >= self.total
        if (is_last and (units or not self._told_at)) or now - self._told_at >= (
            SHOWN_EVERY_S if _terminal() else TOLD_EVERY_S
        ):
            self._told_at = now
            line = self.told() + self._rate(now, *(self._started or (self.done, now))) + suffix
            self._tell(line if is_last else Passing(line))

    def show_unwritten(self, units: int) -> None:
        """On a terminal alone: what is finished, by whomever, beside what is written, which `advance` counts."""
        now, units = time.monotonic(), min(units, self.total - self.done)  # others may have done some of them
        if units and _terminal() and now - self._told_at >= SHOWN_EVERY_S:
            self._told_at = now
            line = self.told(units) + self._rate(now, *(self._started or (self.done + units, now)), units)
            self._tell(Passing(f"{line}; {self.done:,} of them written"))

    def told(self, unwritten: int = 0) -> str:
        """`score: 38,112,004 of 40,000,000 rows`."""
        return self._said.format(stage=self.stage, unit=self.unit, done=self.done + unwritten, total=self.total)

    def _rate(self, now: float, first_done: int, first_at: float, unwritten: int = 0) -> str:
        done = self.done + unwritten
        if done <= first_done or now <= first_at:
            return ""
        to_go = (self.total - done) * (now - first_at) / (done - first_done)
        return f", {(self._rated + unwritten) / (now - first_at):,.0f} {self._rated_in}/s, {duration(to_go)} to go"


def duration(seconds: float) -> str:
    """`3:20 min`, `1:05 h`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d} h" if hours else f"{minutes}:{left:02d} min"
