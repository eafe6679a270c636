"""Write a query for each passage, by a model behind an OpenAI-compatible endpoint, exactly once.

    files of passages --write, search, grade (pipelines/generation)--> generated_queries@v --mine--> triplets

A run asks what this generator has not asked yet and commits as it goes. It may be killed anywhere, and several may run
at once: what is committed stays, and each passage has one row. The last commit holds no rows: it says for which files
all rows are there. Sources: Gecko, Lee et al. 2024, https://arxiv.org/abs/2403.20327; GPL, Wang et al. 2022,
https://arxiv.org/abs/2112.07577.

Memory: the passages, and BM25's index over them (pipelines/search/bm25.py). Neither Ray nor torch is needed.
"""

import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import polars as pl

from pipelines.generation.asking import Asking, Budget
from pipelines.generation.commits import PAID, TABLE, Known, Plan, commit_rows, plan, rows_of
from pipelines.generation.config import GenerateConfig
from pipelines.generation.endpoint import api_key
from pipelines.generation.passages import AS_FOUND, Read, Told, read_passages
from pipelines.generation.price import Price, price
from pipelines.generation.ranking import Candidates
from pipelines.generation.rows import ENDPOINT_ERROR, Row, Seed
from pipelines.intake.find_files import find_files
from pipelines.stage.errors import UserError
from pipelines.stage.finishing import finishing
from pipelines.stage.progress import Progress, tell
from pipelines.storage import Lineage, Tables, TableVersion, VersionMoved, commit
from pipelines.storage.commits import Generated, GenerationResult
from pipelines.storage.erased import erased_ids
from schemas import GeneratedQueries

HEARD_EVERY_S = 0.1


class Generation(NamedTuple):
    """What a run came to."""

    version: TableVersion | None  # None where the budget allowed nothing
    left: int  # passages that the budget did not allow


def check(config: GenerateConfig) -> None:
    """Refuse, before anything is read, what names no endpoint, no model or no key. Raises UserError."""
    config.base_url()
    _ = config.generator
    api_key(config)


def read(tables: Tables, inputs: list[str], config: GenerateConfig, told: Told) -> Read:
    """The passages of files, without those that were erased."""
    files = find_files(inputs, told.quoting)
    return read_passages(files, told, config, config.max_held_passages, erased_ids(tables))


def run(
    tables: Tables,
    inputs: list[str],
    config: GenerateConfig,
    *,
    told: Told = AS_FOUND,
    closed: str | None = None,
) -> Generation:
    """Ask what is missing and commit the completion.

    Args:
        closed: why nothing may be asked any more: passages without a row are then refused.
    Raises:
        UserError: a file cannot be read, or the endpoint takes no question.
        OSError: the endpoint does not answer; what was committed stays.
    """
    check(config)
    tables.check_writable(TABLE)
    found = read(tables, inputs, config, told)
    left = plan(tables, found.passages, config)
    if closed is not None:
        completed = _completed(tables, _completion(found, left, config), is_newest=False)
        if completed is None:
            raise UserError(f"{inputs[0]} has passages without a query, but {closed}")
        return Generation(completed, 0)
    if left.seeds:
        is_spent = _drain(tables, found, left, config)
        left = plan(tables, found.passages, config)
        if is_spent and left.num_unasked:
            _tell_spent(left, config)
            return Generation(tables.latest(TABLE), left.num_unasked)
    return Generation(_complete(tables, found, left, config), 0)


def ask_price(
    tables: Tables,
    inputs: list[str],
    config: GenerateConfig,
    *,
    sample: int,
    told: Told = AS_FOUND,
) -> Price:
    """What `run` would ask and what that costs, from some passages that are asked in earnest; nothing is written.

    Args:
        sample: passages to ask; where this generator has as many rows already, these tell, and none is asked.
    Raises:
        UserError, OSError: as `run`.
    """
    check(config)
    found = read(tables, inputs, config, told)
    left = plan(tables, found.passages, config)
    known = left.done.join(found.passages, on="passage_id")
    if left.seeds and sample > len(known):
        tell(f"generate: asking {min(sample, len(left.seeds)):,} passages to see what they cost; nothing is written")
        known = _sampled(left.seeds[:sample], found, config)
    return price(left, known, found.passages, config)


def _sampled(seeds: Sequence[Seed], found: Read, config: GenerateConfig) -> pl.DataFrame:
    """Rows of some seeds, of which none is kept."""
    new = [seed._replace(paid=(0, 0, 0)) for seed in seeds]
    unlimited = config.model_copy(update={"max_cost": None})
    with Asking(new, unlimited, _candidates(found, config), Budget(unlimited)) as asking:
        rows = [row for row in asking.finished(HEARD_EVERY_S) if row]
    columns = ["passage_id", "passage", "reason", *PAID]
    schema = {name: GeneratedQueries.polars_schema()[name] for name in columns}
    return pl.DataFrame([{name: row.get(name) for name in columns} for row in rows], schema=schema)


def _candidates(found: Read, config: GenerateConfig) -> Candidates:
    """All passages; their index only where candidates are graded."""
    return Candidates(found.passages["passage"].to_list(), config.candidates if config.ranker == "llm" else 0)


def _drain(tables: Tables, found: Read, left: Plan, config: GenerateConfig) -> bool:
    """Ask what is left and commit it as it comes; whether the budget ended it."""
    seeds, budget = _in_turn(left.seeds), Budget(config, left.spent)
    progress = Progress("generate", "passages", done=left.wanted - len(seeds), total=left.wanted)
    again = f", {len(seeds) - left.num_unasked:,} of them again" if left.num_unasked < len(seeds) else ""
    tell(f"generate: {len(seeds):,} of {left.wanted:,} passages are left{again}, by {config.generator}")
    committer = _Committer(tables, found, config, progress, left)
    asking = Asking(seeds, config, _candidates(found, config), budget)
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


def _in_turn(seeds: Sequence[Seed]) -> list[Seed]:
    """The shortest, which is asked alone, then the others in any order: two runs at once hardly ask the same ones."""
    first = min(seeds, key=lambda seed: len(seed.columns["passage"]))
    others = [seed for seed in seeds if seed is not first]
    random.shuffle(others)
    return [first, *others]


class _Committer:
    """Finished rows on their way into the table."""

    def __init__(self, tables: Tables, found: Read, config: GenerateConfig, progress: Progress, left: Plan) -> None:
        self.waiting: list[Row] = []
        self._tables, self._found, self._config, self._progress = tables, found, config, progress
        self._at = time.monotonic()
        failed = frozenset(seed.columns["passage_id"] for seed in left.seeds if seed.is_again)
        self._known = Known(left.version, failed)

    def is_due(self) -> bool:
        return bool(self.waiting) and time.monotonic() - self._at >= self._config.commit_every_s

    def commit(self) -> set[str]:
        """Commit what waits; which passages have a row by now, where another run has added some."""
        rows, self.waiting = self.waiting, []
        if not rows:
            return set()
        committed = commit_rows(self._tables, rows, self._config, self._found.files, self._known)
        self._at = time.monotonic()
        self._progress.advance(committed.rows)
        if committed.compared_with == self._known.version:
            self._known = self._known._replace(version=committed.version)
            return set()
        self._known = Known(None, frozenset())  # another run is at work: from here on the table tells
        there = rows_of(committed.compared_with, self._config.generator)
        return set(there.filter(pl.col("reason").ne_missing(ENDPOINT_ERROR))["passage_id"])


def _completed(tables: Tables, complete: Generated, *, is_newest: bool) -> TableVersion | None:
    """The version that says so; `is_newest`: and after which this generator got no row."""
    newest = tables.latest(TABLE)
    for version, result in newest.results(GenerationResult) if newest else ():
        if result.complete == complete and version.unusable is None:
            return version
        if is_newest and result.generator == complete.generator and result.complete is None:
            return None
    return None


def _completion(found: Read, left: Plan, config: GenerateConfig) -> Generated:
    files = tuple(sorted({file.sha256 for file in found.files}))
    return Generated(generator=config.generator, files=files, passages=left.wanted, max_passages=config.max_passages)


def _complete(tables: Tables, found: Read, left: Plan, config: GenerateConfig) -> TableVersion:
    """The version whose commit says that all rows are there; made now unless it is."""
    complete = _completion(found, left, config)
    _tell_result(left, config)
    while True:
        if version := _completed(tables, complete, is_newest=True):
            tell(f"{version}: all {left.wanted:,} passages were asked before by {config.generator}")
            return version
        base = tables.latest(TABLE)
        files = tuple(found.files)
        result = GenerationResult(generator=config.generator, ingested_files=files, complete=complete)
        record = Lineage("generate", [], config, result).commit(tables.invocation)
        with suppress(VersionMoved):
            return commit(tables, GeneratedQueries, [], record, mode="append", expected=base)


def _tell_result(left: Plan, config: GenerateConfig) -> None:
    """How many passages have a pair, why the others have none, and what all of it has cost."""
    reasons = Counter(left.done["reason"].to_list())
    reasons[ENDPOINT_ERROR] += len(left.seeds) - left.num_unasked
    pairs = reasons.pop(None, 0)
    told = [f"{number:,} {reason}" for reason, number in reasons.most_common() if number]
    tokens = f"{left.spent[1]:,} input and {left.spent[2]:,} output tokens"
    cost = config.cost(*left.spent[1:])
    price = "" if cost is None else f", which cost {cost:,.4f}"
    tell(f"generate: {left.wanted:,} passages: {', '.join([f'{pairs:,} with a pair', *told])}; {tokens}{price}")
    if reasons[ENDPOINT_ERROR]:
        tell("generate: the same command asks again those whose endpoint failed")


def _tell_spent(left: Plan, config: GenerateConfig) -> None:
    cost = config.cost(*left.spent[1:]) or 0.0
    tell(
        f"generate: {cost:,.4f} of generate.max_cost {config.max_cost:g} is spent, and {left.num_unasked:,} of "
        f"{left.wanted:,} passages are left; the same command with a larger one goes on"
    )
