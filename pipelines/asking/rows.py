"""One row's calls: what they cost, and the reason where nothing came of them.

Reasons beside those of answers.py: `rejected` (the endpoint does not take the question, say because it is too long);
`endpoint_error` (no answer after all retries: the next run asks again). What was answered is paid for and counted, used
or not.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from pipelines.asking.answers import Unusable, clean
from pipelines.asking.completion import Reply
from pipelines.asking.config import EndpointConfig
from pipelines.asking.endpoint import Endpoint, Rejected, Stopped, Unreachable
from schemas.generated_queries import MAX_ANSWER_CHARS

ENDPOINT_ERROR = "endpoint_error"
Row = dict[str, Any]
Key = tuple[str, ...]


class Seed(NamedTuple):
    """What a row is made of."""

    key: Key
    columns: Row  # what its row says before anything is asked, and whose it is
    paid: tuple[int, int | None, int | None] = (0, 0, 0)  # calls, input and output tokens of earlier tries
    is_again: bool = False  # it has a row, whose endpoint failed


Make = Callable[[Seed, Endpoint], Awaitable[Row]]
"""The row of a seed. Raises Refuses where the endpoint takes no question at all, Stopped where the run is to end."""


class Account:
    """What a row's calls came to; tokens are unknown for good where one answer does not say."""

    def __init__(self, paid: tuple[int, int | None, int | None]) -> None:
        self._calls, self._input, self._output = paid
        self.is_new = True  # nothing was paid yet
        self.last: Reply | None = None

    async def pay(self, asked: Awaitable[Reply]) -> Reply:
        reply = await asked
        self._calls += 1
        self._input = _sum(self._input, reply.input_tokens)
        self._output = _sum(self._output, reply.output_tokens)
        self.last, self.is_new = reply, False
        return reply

    def columns(self) -> Row:
        return {"calls": self._calls, "input_tokens": self._input, "output_tokens": self._output}


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


async def answered(seed: Seed, config: EndpointConfig, ask: Callable[[Row, Account], Awaitable[None]]) -> Row:
    """The row that `ask` fills in, or the reason why it could not.

    Raises:
        Refuses: the endpoint takes no question at all.
        Stopped: the run is to end, and nothing was paid for this row.
    """
    account = Account(seed.paid)
    row = seed.columns.copy()
    try:
        await ask(row, account)
    except Unusable as error:
        answer = account.last.text if account.last and config.keep_raw else None
        row |= {"reason": error.reason, "detail": error.detail, "answer": answer and clean(answer)[:MAX_ANSWER_CHARS]}
    except Rejected as error:
        row |= {"reason": "rejected", "detail": clean(str(error))}
    except Unreachable as error:
        row |= {"reason": ENDPOINT_ERROR, "detail": clean(str(error))}
    except Stopped:
        if account.is_new:
            raise
        row |= {"reason": ENDPOINT_ERROR, "detail": "the run was to end while a further question waited for its turn"}
    return row | account.columns()
