"""One passage's calls as a row of generated_queries: write a query, find candidates, grade them, choose.

Reasons against a row: those of answers.py; `no_relevant_passage` (no candidate answers the query, not even the seed);
`rejected` (the endpoint does not take the question, say because it is too long); `endpoint_error` (no answer after all
retries: the next run asks again). What was answered is paid for and counted, used or not.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from pipelines.generation.answers import Unusable, read_grades, read_written
from pipelines.generation.config import GenerateConfig
from pipelines.generation.endpoint import FILTERED, Endpoint, Rejected, Reply, Unreachable
from pipelines.generation.prompts import rank_prompt, write_prompt
from pipelines.generation.ranking import Candidate, Candidates, Choice, choose
from pipelines.stage.errors import describe
from pipelines.texts.ids import text_id
from schemas.generated_queries import MAX_ANSWER_CHARS

ENDPOINT_ERROR = "endpoint_error"
Row = dict[str, Any]
Search = Callable[[str, int], Awaitable[list[Candidate]]]
"""The candidates of a query whose seed has this position."""


class Seed(NamedTuple):
    """A passage that gets a query."""

    position: int  # among all passages
    columns: Row  # what its row says of the passage
    paid: tuple[int, int | None, int | None] = (0, 0, 0)  # calls, input and output tokens of earlier tries
    is_again: bool = False  # it has a row, whose endpoint failed


class Account:
    """What a passage's calls came to; tokens are unknown for good where one answer does not say."""

    def __init__(self, paid: tuple[int, int | None, int | None]) -> None:
        self._calls, self._input, self._output = paid
        self.last: Reply | None = None

    async def pay(self, asked: Awaitable[Reply]) -> Reply:
        reply = await asked
        self._calls += 1
        self._input = _sum(self._input, reply.input_tokens)
        self._output = _sum(self._output, reply.output_tokens)
        self.last = reply
        return reply

    def columns(self) -> Row:
        return {"calls": self._calls, "input_tokens": self._input, "output_tokens": self._output}


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


async def make_row(
    seed: Seed, config: GenerateConfig, endpoint: Endpoint, candidates: Candidates, search: Search
) -> Row:
    """The row of one passage.

    Raises:
        Refuses: the endpoint takes no question at all.
    """
    account = Account(seed.paid)
    row: Row = seed.columns | {"generator": config.generator}
    try:
        await _write(row, config, endpoint, account)
        if config.ranker == "seed":
            row |= _pair(row["passage"], None) | {"is_relabelled": False}
        else:
            found = await search(row["query"], seed.position)
            row |= await _judged(row, found, seed.position, config, endpoint, candidates, account)
    except Unusable as error:
        answer = account.last.text if account.last and config.keep_raw else None
        row |= {"reason": error.reason, "detail": error.detail, "answer": answer and _clean(answer)[:MAX_ANSWER_CHARS]}
    except Rejected as error:
        row |= {"reason": "rejected", "detail": _clean(str(error))}
    except Unreachable as error:
        row |= {"reason": ENDPOINT_ERROR, "detail": _clean(str(error))}
    return row | account.columns()


async def _write(row: Row, config: GenerateConfig, endpoint: Endpoint, account: Account) -> None:
    """Task and query into the row. Raises Unusable and what `ask` does."""
    prompt = write_prompt(config.write_prompt, row["passage"], config.passage_chars)
    reply = await account.pay(endpoint.ask(prompt, temperature=config.temperature))
    written = _read(reply, config, lambda text: read_written(text, row["passage"], config.max_query_chars))
    row |= {"task": written.task, "query": written.query, "query_id": text_id(written.query)}


async def _judged(
    row: Row,
    found: list[Candidate],
    seed: int,
    config: GenerateConfig,
    endpoint: Endpoint,
    candidates: Candidates,
    account: Account,
) -> Row:
    """Positive, negative and their grades. Raises Unusable and what `ask` does."""
    texts = [candidates.passages[one.passage] for one in found]
    prompt = rank_prompt(config.rank_prompt, row["task"], row["query"], texts, config.candidate_chars)
    reply = await account.pay(endpoint.ask(prompt, temperature=0.0))
    grades = _read(reply, config, lambda text: read_grades(text, len(found)))
    choice = choose(found, grades, seed, config.min_positive_grade, config.max_negative_grade)
    ranks = {one.passage: one.rank for one in found}
    if choice is None:
        raise Unusable("no_relevant_passage", f"the best of {len(found):,} candidates has grade {max(grades)}")
    return _chosen(choice, found, grades, texts) | {
        "is_relabelled": found[choice.positive].passage != seed,
        "seed_rank": ranks[seed],
        "relevant_ids": sorted(text_id(texts[place]) for place in choice.relevant),
    }


def _chosen(choice: Choice, found: list[Candidate], grades: list[int], texts: list[str]) -> Row:
    positive, negative = choice.positive, choice.negative
    row = _pair(texts[positive], None if negative is None else texts[negative])
    row |= {"positive_grade": grades[positive], "positive_rank": found[positive].rank}
    if negative is not None:
        row |= {"negative_grade": grades[negative], "negative_rank": found[negative].rank}
    return row


def _pair(positive: str, negative: str | None) -> Row:
    ids = {"positive_id": text_id(positive), "negative_id": negative and text_id(negative)}
    return {"positive": positive, "negative": negative, **ids}


def _read(reply: Reply, config: GenerateConfig, read: Callable[[str], Any]) -> Any:
    """What an answer says. Raises Unusable, also where the endpoint says that it is no answer."""
    if reply.refusal or reply.finish == FILTERED:
        raise Unusable("refused", _clean(reply.refusal or "the endpoint's content filter")[:300])
    try:
        return read(reply.text)
    except Unusable as error:
        if reply.finish == "length":
            detail = f"cut after {config.max_output_tokens:,} tokens (generate.max_output_tokens)"
            raise Unusable("malformed_answer", detail) from error
        raise
    except (ValueError, RecursionError) as error:  # of the JSON, say a number of 5,000 digits
        raise Unusable("malformed_answer", describe(error)) from error


def _clean(text: str) -> str:
    """Valid UTF-8: an endpoint's JSON may hold half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()
