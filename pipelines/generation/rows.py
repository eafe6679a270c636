"""One passage's calls as a row of generated_queries: write a query, find candidates, grade them, choose.

A reason of its own, beside those of pipelines/asking and answers.py: `no_relevant_passage` (no candidate answers the
query, not even the seed).
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from pipelines.asking.answers import Unusable, read_reply
from pipelines.asking.endpoint import Endpoint
from pipelines.asking.rows import Account, Row, Seed, answered
from pipelines.generation.answers import read_grades, read_written
from pipelines.generation.config import GenerateConfig
from pipelines.generation.prompts import rank_prompt, write_prompt
from pipelines.generation.ranking import Candidate, Candidates, Choice, choose
from pipelines.texts.ids import text_id


class Writing:
    """Makes rows of passages, for as long as the block lasts; candidates are searched in a thread, so that answers are
    heard meanwhile, one query at a time, as it is the processor's work."""

    def __init__(self, config: GenerateConfig, candidates: Candidates) -> None:
        self._config, self._candidates = config, candidates
        self._searching = ThreadPoolExecutor(1, "search")

    def __enter__(self) -> "Writing":
        return self

    def __exit__(self, *_: object) -> None:
        self._searching.shutdown(wait=False, cancel_futures=True)

    async def row(self, seed: Seed, endpoint: Endpoint) -> Row:
        """The row of one passage, `position` of the seed's columns being its place among all.

        Raises:
            Refuses: the endpoint takes no question at all.
        """

        async def ask(row: Row, account: Account) -> None:
            await _write(row, self._config, endpoint, account)
            if self._config.ranker == "seed":
                row |= _pair(row["passage"], None) | {"is_relabelled": False}
                return
            place = row["position"]
            found = await asyncio.get_running_loop().run_in_executor(
                self._searching, self._candidates.of, row["query"], place
            )
            row |= await _judged(row, found, place, self._config, endpoint, self._candidates, account)

        return await answered(seed, self._config, ask)


async def _write(row: Row, config: GenerateConfig, endpoint: Endpoint, account: Account) -> None:
    """Task and query into the row. Raises Unusable and what `ask` does."""
    prompt = write_prompt(config.write_prompt, row["passage"], config.passage_chars)
    reply = await account.pay(endpoint.ask(prompt, temperature=config.temperature))
    written = read_reply(reply, config, lambda text: read_written(text, row["passage"], config.max_query_chars))
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
    grades = read_reply(reply, config, lambda text: read_grades(text, len(found)))
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
