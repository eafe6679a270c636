"""Have suspected false negatives judged by a model behind an OpenAI-compatible endpoint, each pair exactly once.

    scored_triplets@v --suspects--> (query, passage) --judge--> passage_judgements@v' --curate--> `relabelled` rows

A run asks what this judge has not been asked yet, by whichever version, and commits as it goes; it may be killed
anywhere, and several may run at once. The last commit holds no rows: it says of which version's suspects all are there.
Source: RLHN, Thakur et al. 2025, https://arxiv.org/abs/2505.16967.

Memory: the pairs with their texts. Neither Ray nor torch is needed.
"""

from collections import Counter
from typing import NamedTuple

import polars as pl

from pipelines.asking.book import PAID, Book, Plan
from pipelines.asking.drain import drain, sampled, tell_result, tell_spent
from pipelines.asking.endpoint import check_can_ask
from pipelines.asking.price import Price, price
from pipelines.curation.scored_rows import ScoredRows
from pipelines.judging.config import RelabelConfig
from pipelines.judging.suspects import PAIR, Suspects, find_suspects
from pipelines.judging.verdicts import book_of, judging, prompt_chars
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import TableVersion
from pipelines.storage.commits import Input, Judged
from schemas import PassageJudgements

TABLE = PassageJudgements.table_name()


class Relabelling(NamedTuple):
    """What a run came to."""

    version: TableVersion | None  # None where the budget allowed nothing
    left: int  # pairs that the budget did not allow


def run(scored: TableVersion, config: RelabelConfig, *, teacher: str | None = None) -> Relabelling:
    """Ask what is missing and commit the completion.

    Args:
        teacher: whose scores say what is suspected; None is the only one who scored.
    Raises:
        UserError: nothing is suspected, or the endpoint takes no question.
        OSError: the endpoint does not answer; what was committed stays.
    """
    check_can_ask(config)
    scored.tables.check_writable(TABLE)
    source = ScoredRows.find(scored, teacher)
    found = _found(source, config)
    book = book_of(scored.tables, config, [scored, source.triplets])
    left = book.plan(found.pairs)
    if left.seeds:
        is_spent = drain(left, book, config, judging(config))
        left = book.plan(found.pairs)
        if is_spent and left.num_unasked:
            tell_spent(left, config)
            return Relabelling(scored.tables.latest(TABLE), left.num_unasked)
    return Relabelling(_complete(book, source, left, config), 0)


def ask_price(scored: TableVersion, config: RelabelConfig, *, sample: int, teacher: str | None = None) -> Price:
    """What `run` would ask and what that costs, from some pairs that are asked in earnest; nothing is written.

    Args:
        sample: pairs to ask; where this judge has as many rows of these already, these tell, and none is asked.
    Raises:
        UserError, OSError: as `run`.
    """
    check_can_ask(config)
    source = ScoredRows.find(scored, teacher)
    found = _found(source, config)
    book = book_of(scored.tables, config, [scored, source.triplets])
    left = book.plan(found.pairs)
    known = left.done.join(found.pairs, on=PAIR)
    if left.seeds and sample > len(known):
        rows = sampled(left.seeds[:sample], config, judging(config))
        known = book.frame(rows, [*PAIR, "query", "passage", "verdict", "reason", *PAID])
    is_relevant = pl.col("verdict").eq_missing("relevant")
    return price(left, known, config, chars=prompt_chars(config), calls=1, is_good=is_relevant)


def _found(source: ScoredRows, config: RelabelConfig) -> Suspects:
    """The pairs, told. Raises UserError where there are none."""
    source.check_complete(partial=True)
    found, margin = find_suspects(source, config), config.margin(source.teacher_kind)
    if found.pairs.is_empty():
        raise UserError(
            f"{source.scored}: of {found.rows:,} rows {found.suspected:,} have a negative that {source.teacher} scores "
            f"less than {margin:g} below its positive, and none is to be judged; expected a larger "
            f"relabel.suspect_margin.{source.teacher_kind}"
        )
    tell(
        f"relabel: {found.suspected:,} of {found.rows:,} rows, of {found.queries:,} queries, have a negative that "
        f"{source.teacher} scores less than {margin:g} below its positive: {len(found.pairs):,} pairs to judge"
    )
    return found


def _complete(book: Book, source: ScoredRows, left: Plan, config: RelabelConfig) -> TableVersion:
    """The version whose commit says that all rows are there."""
    tell_result(left, config, Counter(left.done.select(pl.coalesce("verdict", "reason")).to_series().to_list()))
    complete = Judged(
        judge=config.who,
        scored=Input(**source.scored.identity()),
        teacher=source.teacher,
        selection=config.selection(source.teacher_kind),
        pairs=left.wanted,
    )
    before = f"all {left.wanted:,} pairs were judged before by {config.who}"
    return book.complete(complete, lambda version: tell(f"{version}: {before}"))
