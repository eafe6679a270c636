"""Ask all that is left and commit it as it comes; a kill loses what came since the last commit.

plan --many at once--> finished rows --every commit_every_s--> the table
"""

import random
import time
from collections import Counter
from collections.abc import Sequence

from pipelines.asking.book import Book, Known, Plan
from pipelines.asking.config import EndpointConfig
from pipelines.asking.many import Asking, Budget
from pipelines.asking.rows import ENDPOINT_ERROR, Key, Make, Row, Seed
from pipelines.stage.finishing import finishing
from pipelines.stage.progress import Progress, tell

HEARD_EVERY_S = 0.1


def drain(left: Plan, book: Book, config: EndpointConfig, make: Make) -> bool:
    """Whether the budget ended it.

    Raises:
        UserError: the endpoint takes no question.
        OSError: it does not answer; what was committed stays.
    """
    seeds, budget = _in_turn(left.seeds, config.shown), Budget(config, left.spent)
    progress = Progress(config.stage, config.unit, done=left.wanted - len(seeds), total=left.wanted)
    again = f", {len(seeds) - left.num_unasked:,} of them again" if left.num_unasked < len(seeds) else ""
    tell(f"{config.stage}: {len(seeds):,} of {left.wanted:,} {config.unit} are left{again}, by {config.who}")
    committer = _Committer(book, config, progress, left)
    asking = Asking(seeds, config, make, budget)
    try:
        with finishing() as asked, asking:
            progress.start()
            for row in asking.finished(HEARD_EVERY_S):
                committer.waiting += [row] if row else []
                if asked.is_set():
                    asking.close()
                if committer.is_due():
                    asking.skip(committer.commit())
            committer.commit()
    except BaseException:
        committer.waiting += asking.at_hand()  # what was answered was paid for
        committer.commit()
        tell(f"{progress.told()}; the same command goes on")
        raise
    return budget.is_spent


def sampled(seeds: Sequence[Seed], config: EndpointConfig, make: Make) -> list[Row]:
    """Rows of some seeds, of which none is kept."""
    tell(f"{config.stage}: asking {len(seeds):,} {config.unit} to see what they cost; nothing is written")
    new = [seed._replace(paid=(0, 0, 0)) for seed in seeds]
    unlimited = config.model_copy(update={"max_cost": None})
    with Asking(new, unlimited, make, Budget(unlimited)) as asking:
        return [row for row in asking.finished(HEARD_EVERY_S) if row]


def tell_result(left: Plan, config: EndpointConfig, outcomes: Counter[str | None]) -> None:
    """How many rows came out how, and what all of it has cost."""
    outcomes = outcomes + Counter({ENDPOINT_ERROR: len(left.seeds) - left.num_unasked})
    told = [f"{number:,} {outcome}" for outcome, number in outcomes.most_common()]
    tell(f"{config.stage}: {left.wanted:,} {config.unit}: {', '.join(told) or 'none'}; {_spent(left, config)}")
    if outcomes[ENDPOINT_ERROR]:
        tell(f"{config.stage}: the same command asks again those whose endpoint failed")


def _spent(left: Plan, config: EndpointConfig) -> str:
    """What all rows have cost, as far as the endpoint says."""
    if left.at_least is None:
        return "the endpoint does not say how many tokens that took"
    told = f"{left.at_least}{left.spent[1]:,} input and {left.spent[2]:,} output tokens"
    cost = config.cost(*left.spent[1:])
    told += "" if cost is None else f", which cost {left.at_least}{cost:,.4f}"
    return told + (f"; of {left.untold:,} rows the endpoint does not say" if left.untold else "")


def tell_spent(left: Plan, config: EndpointConfig) -> None:
    """That the budget ended it."""
    cost = config.cost(*left.spent[1:]) or 0.0
    tell(
        f"{config.stage}: {cost:,.4f} of {config.stage}.max_cost {config.max_cost:g} is spent, and "
        f"{left.num_unasked:,} of {left.wanted:,} {config.unit} are left; the same command with a larger one goes on"
    )


def _in_turn(seeds: Sequence[Seed], shown: str) -> list[Seed]:
    """The shortest, which is asked alone, then the others in any order: two runs at once hardly ask the same ones."""
    first = min(seeds, key=lambda seed: len(seed.columns[shown]))
    others = [seed for seed in seeds if seed is not first]
    random.shuffle(others)
    return [first, *others]


class _Committer:
    """Finished rows on their way into the table."""

    def __init__(self, book: Book, config: EndpointConfig, progress: Progress, left: Plan) -> None:
        self.waiting: list[Row] = []
        self._book, self._every_s, self._progress = book, config.commit_every_s, progress
        self._at = time.monotonic()
        self._known = Known(left.version, frozenset(seed.key for seed in left.seeds if seed.is_again))

    def is_due(self) -> bool:
        return bool(self.waiting) and time.monotonic() - self._at >= self._every_s

    def commit(self) -> set[Key]:
        """Commit what waits; which keys have a row by now, where another run has added some."""
        rows, self.waiting = self.waiting, []
        if not rows:
            return set()
        try:
            committed = self._book.commit(rows, self._known)
        except BaseException:
            self.waiting = [*rows, *self.waiting]  # they were paid for: what is there already is left out next time
            raise
        self._at = time.monotonic()
        self._progress.advance(committed.rows)
        if committed.compared_with == self._known.version:
            self._known = self._known._replace(version=committed.version)
            return set()
        self._known = Known(None, frozenset())  # another run is at work: from here on the table tells
        return self._book.answered(committed.compared_with)
