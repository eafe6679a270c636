"""One passage's calls as a row of generated_queries: write a query, find candidates, grade or score them, choose.

Reasons of its own, beside those of pipelines/asking and answers.py: `no_relevant_passage` (no candidate answers the
query, not even the seed); `not_scored` (the teacher can score no candidate).
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pipelines.asking.answers import Unusable, read_reply
from pipelines.asking.endpoint import Endpoint
from pipelines.asking.rows import Account, Row, Seed, answered
from pipelines.generation.answers import read_grades, read_written
from pipelines.generation.config import GenerateConfig
from pipelines.generation.prompts import rank_prompt, write_prompt
from pipelines.generation.ranking import Candidate, Candidates, Choice, choose, prefer
from pipelines.teachers.config import load_teacher
from pipelines.texts.ids import text_id

if TYPE_CHECKING:
    from pipelines.teachers.teacher import Teacher


class Writing:
    """Makes rows of passages, for as long as the block lasts; candidates are searched, and scored by a teacher, in a
    thread, so that answers are heard meanwhile, one query at a time, as it is the processor's work."""

    def __init__(self, config: GenerateConfig, candidates: Candidates) -> None:
        """Raises UserError where the teacher who is to rank cannot be loaded, or cannot read a plain sentence."""
        self._config, self._candidates = config, candidates
        self._teacher = load_teacher(config.ranking_teacher()) if config.ranker == "teacher" else None
        if self._teacher:
            self._teacher.check_model()
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
            place, thread = row["position"], asyncio.get_running_loop().run_in_executor
            found = await thread(self._searching, self._candidates.of, row["query"], place)
            texts = [self._candidates.passages[one.passage] for one in found]
            if self._teacher:
                row |= await thread(self._searching, _scored, row, found, texts, self._config, self._teacher)
            else:
                row |= await _graded(row, found, texts, self._config, endpoint, account)

        return await answered(seed, self._config, ask)


async def _write(row: Row, config: GenerateConfig, endpoint: Endpoint, account: Account) -> None:
    """Task and query into the row. Raises Unusable and what `ask` does."""
    prompt = write_prompt(config.write_prompt, row["passage"], config.passage_chars)
    reply = await account.pay(endpoint.ask(prompt, temperature=config.temperature))
    written = read_reply(reply, config, lambda text: read_written(text, row["passage"], config.max_query_chars))
    row |= {"task": written.task, "query": written.query, "query_id": text_id(written.query)}


async def _graded(
    row: Row, found: list[Candidate], texts: list[str], config: GenerateConfig, endpoint: Endpoint, account: Account
) -> Row:
    """Positive, negative and their grades. Raises Unusable and what `ask` does."""
    prompt = rank_prompt(config.rank_prompt, row["task"], row["query"], texts, config.candidate_chars)
    reply = await account.pay(endpoint.ask(prompt, temperature=0.0))
    grades = read_reply(reply, config, lambda text: read_grades(text, len(found)))
    choice = choose(found, grades, row["position"], config.min_positive_grade, config.max_negative_grade)
    if choice is None:
        raise Unusable("no_relevant_passage", f"the best of {len(found):,} candidates has grade {max(grades)}")
    return _chosen(choice, found, texts, row["position"]) | _of_both(choice, "grade", grades)


def _scored(row: Row, found: list[Candidate], texts: list[str], config: GenerateConfig, teacher: "Teacher") -> Row:
    """Positive, negative and their scores. Raises Unusable, and UserError for a broken teacher."""
    told = teacher.score([row["query"]] * len(texts), texts)
    scores = told.score.tolist()
    choice = prefer(found, scores, row["position"], config.tolerance())
    if choice is None:
        raise Unusable("not_scored", f"of {len(found):,} candidates: {next(filter(None, told.error))}")
    return _chosen(choice, found, texts, row["position"]) | _of_both(choice, "score", scores)


def _chosen(choice: Choice, found: list[Candidate], texts: list[str], seed: int) -> Row:
    negative = choice.negative
    return {
        **_pair(texts[choice.positive], None if negative is None else texts[negative]),
        **_of_both(choice, "rank", [one.rank for one in found]),
        "is_relabelled": found[choice.positive].passage != seed,
        "seed_rank": next(one.rank for one in found if one.passage == seed),
        "relevant_ids": sorted(text_id(texts[place]) for place in choice.relevant),
    }


def _of_both(choice: Choice, what: str, values: Sequence[float | None]) -> Row:
    """A value of the positive and of the negative, if there is one."""
    negative = None if choice.negative is None else values[choice.negative]
    return {f"positive_{what}": values[choice.positive], f"negative_{what}": negative}


def _pair(positive: str, negative: str | None) -> Row:
    ids = {"positive_id": text_id(positive), "negative_id": negative and text_id(negative)}
    return {"positive": positive, "negative": negative, **ids}
