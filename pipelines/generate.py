"""Write a query for each passage, by a model behind an OpenAI-compatible endpoint, exactly once.

    files of passages --write, search, rank (pipelines/generation)--> generated_queries@v --mine--> triplets

A run asks what this generator has not asked yet and commits as it goes. It may be killed anywhere, and several may run
at once: what is committed stays, and each passage has one row. The last commit holds no rows: it says for which files
all rows are there. Sources: Gecko, Lee et al. 2024, https://arxiv.org/abs/2403.20327; GPL, Wang et al. 2022,
https://arxiv.org/abs/2112.07577.

Memory: the passages, and BM25's index over them (pipelines/search/bm25.py). Ray is not needed, and torch only where a
teacher ranks: it does so where the command runs.
"""

from collections import Counter
from typing import NamedTuple

from pipelines.asking.book import PAID, Book, Plan
from pipelines.asking.drain import drain, sampled, tell_result, tell_spent
from pipelines.asking.endpoint import check_can_ask
from pipelines.asking.price import Price
from pipelines.generation.commits import book_of, plan
from pipelines.generation.config import GenerateConfig
from pipelines.generation.passages import AS_FOUND, Read, Told, read_passages
from pipelines.generation.price import price
from pipelines.generation.ranking import Candidates
from pipelines.generation.rows import Writing
from pipelines.intake.beir import is_beir_folder
from pipelines.intake.find_files import find_files
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import Generated
from pipelines.storage.erased import erased_ids
from schemas import GeneratedQueries

TABLE = GeneratedQueries.table_name()


class Generation(NamedTuple):
    """What a run came to."""

    version: TableVersion | None  # None where the budget allowed nothing
    left: int  # passages that the budget did not allow


def read(tables: Tables, inputs: list[str], config: GenerateConfig, told: Told) -> Read:
    """The passages of files, without those that were erased. Raises UserError for a whole BEIR folder."""
    files = find_files(inputs, told.quoting)
    for given in filter(is_beir_folder, inputs):
        raise UserError(
            f"input {given} is a BEIR folder, whose queries and judgements are no passages; expected its corpus alone: "
            f"give {min(path_of(given, 'input').glob('corpus*'))}"
        )
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
    check_can_ask(config)
    tables.check_writable(TABLE)
    found = read(tables, inputs, config, told)
    book = book_of(tables, config, found.files)
    left = plan(book, found.passages, config)
    if closed is not None:
        completed = book.completed(_completion(found, left, config), is_newest=False)
        if completed is None:
            raise UserError(f"{inputs[0]} has passages without a query, but {closed}")
        return Generation(completed, 0)
    if left.seeds:
        with Writing(config, _candidates(found, config)) as writing:
            is_spent = drain(left, book, config, writing.row)
        left = plan(book, found.passages, config)
        if is_spent and left.num_unasked:
            tell_spent(left, config)
            return Generation(tables.latest(TABLE), left.num_unasked)
    return Generation(_complete(book, found, left, config), 0)


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
    check_can_ask(config)
    found = read(tables, inputs, config, told)
    book = book_of(tables, config, found.files)
    left = plan(book, found.passages, config)
    known = left.done.join(found.passages, on="passage_id")
    if left.seeds and sample > len(known):
        with Writing(config, _candidates(found, config)) as writing:
            rows = sampled(left.seeds[:sample], config, writing.row)
        known = book.frame(rows, ["passage_id", "passage", "reason", *PAID])
    return price(left, known, found.passages, config)


def _candidates(found: Read, config: GenerateConfig) -> Candidates:
    """All passages; their index only where candidates are ranked."""
    return Candidates(found.passages["passage"].to_list(), 0 if config.ranker == "seed" else config.candidates)


def _completion(found: Read, left: Plan, config: GenerateConfig) -> Generated:
    files = tuple(sorted({file.sha256 for file in found.files}))
    return Generated(generator=config.generator, files=files, passages=left.wanted, max_passages=config.max_passages)


def _complete(book: Book, found: Read, left: Plan, config: GenerateConfig) -> TableVersion:
    """The version whose commit says that all rows are there."""
    reasons = Counter[str | None](left.done["reason"].to_list())
    pairs = Counter[str | None]({"with a pair": reasons.pop(None, 0)})
    tell_result(left, config, pairs + reasons)
    before = f"all {left.wanted:,} passages were asked before by {config.generator}"
    return book.complete(_completion(found, left, config), lambda version: tell(f"{version}: {before}"))
