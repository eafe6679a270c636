"""What mine reads: (query, positive) pairs, and the passages to draw from.

Of a BEIR folder the train judgements are mined, or else all; the others are known as well. BEIR folders and versions
of generated_queries are held in memory.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from pipelines.intake.accounts import Intake
from pipelines.intake.beir import BeirSet, read_all_judgements
from pipelines.intake.formats import Input
from pipelines.intake.input_files import InputFile
from pipelines.intake.layouts import Layouts, RowChecks, shown_name, text_problem, title_and_text
from pipelines.intake.plain_texts import say_what_is_left_out
from pipelines.intake.qrels import qrels_name, qrels_names
from pipelines.intake.raw_rows import RawRow, in_batches
from pipelines.mining.generated import GeneratedQueriesInput
from pipelines.mining.known import Forbidden, Known, Pair
from pipelines.mining.passages import PassageLimits, Passages
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.progress import tell

PASSAGE_COLUMNS = ("text", "passage", "title")


def read_judgements(folder: str) -> Iterator[tuple[str, BeirSet]]:
    """Every qrels file of a BEIR folder, with the set as it judges."""
    for beir in read_all_judgements(folder):
        if beir.complaint():
            tell(beir.complaint())
        yield str(Path(folder, "qrels", beir.qrels_file)), beir


def is_mined(qrels: str) -> bool:
    """Train judgements, or all where there are none: whoever mines the test judgements cannot evaluate on them."""
    if "train" in qrels_names(Path(qrels).parent):
        return qrels_name(Path(qrels)) == "train"
    tell(f"{qrels} is mined, as its folder has no train judgements: don't evaluate on it")
    return True


def read_pairs(
    intake: Intake, judgements: Mapping[str, BeirSet], columns: Mapping[str, str], *, own_source: bool
) -> Iterator[Pair]:
    """The good pairs of every file; --columns names those of files that are no judgements."""
    for position, file in enumerate(intake.files):
        judged = judgements.get(file.path)
        opened = file.found.open() if judged is None else _judged_pairs(file.path, judged)
        is_named = judged is None and not isinstance(file.found, GeneratedQueriesInput)
        named = columns if is_named else {}
        layouts = Layouts(file.path, opened.columns, named, pairs=True, own_source=own_source)
        yield from (Pair(position, number, row) for number, row in intake.good_rows(position, opened, layouts))


def _judged_pairs(path: str, beir: BeirSet) -> Input:
    """A BEIR set's positive judgements as rows, counted from 1."""
    rows = (
        RawRow(
            number,
            {"query": beir.queries[query_id], "positive": beir.corpus[document_id]},
            raw=f"{query_id}\t{document_id}".encode(),
        )
        for number, (query_id, document_id) in enumerate(beir.positives(), 1)
    )
    return Input(path, ("query", "positive"), lambda _: in_batches(rows))


def all_passages(
    pairs: Iterable[Pair],
    judgements: Iterable[BeirSet],
    passages: Iterable[InputFile],
    generated: Sequence[GeneratedQueriesInput],
    checks: RowChecks,
    limits: PassageLimits,
    known: Known,
) -> tuple[Passages, Known]:
    """Of the pairs, of the BEIR folders, of generated queries and of further files; tells how much that is.

    A further passage whose text without its title is a question becomes forbidden for it, and one that was judged to
    answer it.
    """
    forbidden = Forbidden(known)
    for one in generated:
        forbidden.add(one.judged_relevant())
    positives = (text for pair in pairs for text in pair.row.positives)
    corpora = (text for beir in judgements for text in beir.corpus.values())
    good = (text for text in corpora if text_problem(text, checks.max_text_chars) is None)
    further = (text for file in passages for text in _read_passages(file, checks, forbidden))
    seeds = (text for one in generated for text in one.rows["passage"])
    collected = Passages(chain(positives, good, seeds, further), *limits)
    return collected, forbidden.known()


def _read_passages(file: InputFile, checks: RowChecks, forbidden: Forbidden) -> Iterator[str]:
    """The texts of a file with a column text or passage, and perhaps title; bad rows are left out, counted.

    Raises:
        UserError: no such column, or more bad rows than `max_bad_share`.
    """
    opened = file.open()
    columns = None if opened.columns is None else [name for name in PASSAGE_COLUMNS if name in opened.columns]
    seen = dict.fromkeys(opened.columns or ())
    rows = bad = 0
    for batch in opened.batches(columns):
        rows += len(batch)
        titled: list[tuple[str, str]] = []
        for row in batch:
            value = row.value or {}
            seen.update(dict.fromkeys(value) if opened.columns is None else {})
            untitled = value.get("text") if value.get("text") is not None else value.get("passage")
            text = title_and_text({"title": value.get("title"), "text": untitled})
            if text_problem(text, checks.max_text_chars):
                bad += 1
                continue
            if text != untitled:
                titled.append((str(untitled), text))
            yield text
        forbidden.add(titled)
    if not {"text", "passage"} & seen.keys():
        found = first_of(map(shown_name, seen), 30)
        raise UserError(f"{file.path} has the columns {found}; expected text or passage, and perhaps title: rename one")
    say_what_is_left_out(file, bad, rows, checks, what="passages", stage="mine")
