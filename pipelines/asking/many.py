"""Many rows at once, in a thread of their own: the main thread commits what is finished and hears the signals.

    seeds --`concurrency` at once--> finished rows, as they come     close(): begin no more, finish what is under way

The first seed is asked alone: where the endpoint is not there or takes no question, that is said before any other is
tried. Later an outage ends it: of rows that failed one after the other, with no answer between them, none is given out.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from pipelines.asking.config import EndpointConfig
from pipelines.asking.endpoint import Endpoint, Stopped, Unreachable, connected
from pipelines.asking.rows import ENDPOINT_ERROR, Key, Make, Row, Seed
from pipelines.stage.errors import UserError

LEAST_OUTAGE = 20
"""Rows, one after the other, without an answer, or twice as many as are under way: that is an outage."""
JOIN_S = 10.0
AFFORDABLE_EVERY_S = 0.02


class Budget:
    """Whether one more row may be begun: what this model's rows cost, and the dearest's for each under way.

    With a limit no more are under way than this run has finished, and one: the first ones tell what is dear.
    """

    def __init__(self, config: EndpointConfig, spent: tuple[int, int, int] = (0, 0, 0)) -> None:
        """`spent`: rows, input and output tokens of the rows that are there."""
        self._config = config
        self.rows, self.input_tokens, self.output_tokens = spent
        self.under_way, self.is_spent = 0, False
        self._finished, self._dearest = 0, (self.cost or 0.0) / max(1, self.rows)

    @property
    def cost(self) -> float | None:
        """None where no price is given."""
        return self._config.cost(self.input_tokens, self.output_tokens)

    def may_begin(self) -> bool:
        """Counts a row as under way if so."""
        limit, cost = self._config.max_cost, self.cost
        if limit is not None and self.under_way > self._finished:
            return False
        reserved = (self.under_way + 1) * self._dearest
        if limit is not None and cost is not None and (cost >= limit or cost + reserved > limit):
            self.is_spent = self.under_way == 0
            return False
        self.under_way += 1
        return True

    def finished(self, seed: Seed, row: Row) -> None:
        """Raises UserError where the endpoint counts no tokens and a limit is to be held."""
        self.under_way, self._finished = self.under_way - 1, self._finished + 1
        if row["input_tokens"] is None or row["output_tokens"] is None:
            if self._config.max_cost is not None:
                raise UserError(
                    f"{self._config.endpoint} does not say how many tokens its answers cost, so "
                    f"{self._config.stage}.max_cost cannot be held; leave it out, and give "
                    f"{self._config.stage}.max_{self._config.unit}"
                )
            return
        paid = row["input_tokens"] - (seed.paid[1] or 0), row["output_tokens"] - (seed.paid[2] or 0)
        self.input_tokens, self.output_tokens = self.input_tokens + paid[0], self.output_tokens + paid[1]
        self._dearest = max(self._dearest, self._config.cost(*paid) or 0.0)
        self.rows += not seed.is_again


class Asking:
    """Rows of seeds, from a thread that ends with the block."""

    def __init__(self, seeds: Sequence[Seed], config: EndpointConfig, make: Make, budget: Budget) -> None:
        self._seeds, self._config, self._make_row, self._budget = iter(seeds), config, make, budget
        self._finished = SimpleQueue[Row | None]()
        self._failed_since: list[Row] = []  # rows without an answer, since the last answer
        self._outage = max(LEAST_OUTAGE, 2 * config.concurrency)
        self._skipped = set[Key]()
        self._is_closed = False
        self._endpoint: Endpoint | None = None
        self._failure: BaseException | None = None
        self._under_way: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._thread = threading.Thread(target=self._run, name=config.stage, daemon=True)

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops what is under way, if anything is."""
        self.close()
        if self._under_way:
            loop, task = self._under_way
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(task.cancel)
        self._thread.join(JOIN_S)

    def close(self) -> None:
        """Begin no other row, and wait for no turn that is far off."""
        self._is_closed = True
        if self._under_way and self._endpoint:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._under_way[0].call_soon_threadsafe(self._endpoint.stop)

    def skip(self, keys: set[Key]) -> None:
        """Don't begin these: another run has finished them."""
        self._skipped |= keys

    def finished(self, every_s: float) -> Iterator[Row | None]:
        """Rows as they come, None where none came for so long; ends with the last one.

        Raises:
            UserError: the endpoint takes no question, or a limit cannot be held.
            OSError: it does not answer.
        """
        while True:
            try:
                row = self._finished.get(timeout=every_s)
            except Empty:
                yield None
                continue
            if row is None:
                break
            yield row
        if self._failure is not None:
            raise self._failure

    def at_hand(self) -> Iterator[Row]:
        """What is finished and was not taken yet."""
        with suppress(Empty):
            while True:
                if row := self._finished.get_nowait():
                    yield row

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:  # raised again in the main thread
            self._failure = self._failure or error
        finally:
            self._finished.put(None)

    async def _all(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio.run makes one"
        self._under_way = asyncio.get_running_loop(), task
        async with connected(self._config) as endpoint:
            self._endpoint = endpoint
            if self._is_closed:  # before there was anything to stop
                return
            if not await self._first(endpoint):
                return
            await asyncio.gather(*(self._work(endpoint) for _ in range(self._config.concurrency)))
        for row in self._failed_since if self._failure is None else ():
            self._finished.put(row)

    async def _first(self, endpoint: Endpoint) -> bool:
        """Ask the first seed alone; whether there may be a second.

        Raises:
            UserError, OSError: what keeps it from being answered would keep all.
        """
        is_new = self._budget.rows == 0
        if (seed := await self._next()) is None:
            return False
        try:
            row = await self._make(seed, endpoint)
        except Stopped:
            return False
        if row.get("reason") == ENDPOINT_ERROR and not self._is_closed:
            raise Unreachable(f"{self._config.undone}: {row['detail']}")
        if row.get("reason") == "rejected" and is_new:
            raise UserError(
                f"{self._config.undone}: {row['detail']}; expected a server that takes {self._config.stage}."
                "answer_format, output_limit and extra as they are: change them"
            )
        self._finished.put(row)
        return True

    async def _work(self, endpoint: Endpoint) -> None:
        """Row after row; after a failure that concerns all, the others finish theirs."""
        try:
            while (seed := await self._next()) is not None:
                self._give(await self._make(seed, endpoint))
        except Stopped:
            return
        except Exception as error:
            self._failure = self._failure or error
            self.close()

    async def _next(self) -> Seed | None:
        """The next seed that is to be asked, once it is affordable; None where there is none, or no budget left."""
        seed = next((one for one in self._seeds if one.key not in self._skipped), None)
        while seed is not None and not self._is_closed:
            if self._budget.may_begin():
                return seed
            if self._budget.is_spent:
                break
            await asyncio.sleep(AFFORDABLE_EVERY_S)
        return None

    async def _make(self, seed: Seed, endpoint: Endpoint) -> Row:
        row = await self._make_row(seed, endpoint)
        self._budget.finished(seed, row)
        return row

    def _give(self, row: Row) -> None:
        """Raises Unreachable where this is one failure too many."""
        if row.get("reason") == ENDPOINT_ERROR:
            self._failed_since.append(row)
            if len(self._failed_since) >= self._outage and not self._is_closed:
                raise Unreachable(f"{self._outage:,} {self._config.unit} in a row were not answered: {row['detail']}")
            return
        held, self._failed_since = self._failed_since, []
        for one in [*held, row]:
            self._finished.put(one)
