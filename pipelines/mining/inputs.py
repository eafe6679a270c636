"""What mine reads: (query, positive) pairs, what the whole input knows as positive, and the passages to draw from.

All of it is held in memory, passages as their texts plus about 250 bytes each; the index over them comes on top
(pipelines/search/bm25.py). Of a BEIR folder the train judgements are mined, or else all; the others are known as well.
"""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.intake.accounts import Intake
from pipelines.intake.beir import BeirSet, read_all_judgements
from pipelines.intake.formats import Input
from pipelines.intake.input_files import InputFile
from pipelines.intake.layouts import CheckedRow, Layouts, RowChecks, shown_name, text_problem, title_and_text
from pipelines.intake.plain_texts import say_what_is_left_out
from pipelines.intake.qrels import qrels_name, qrels_names
from pipelines.intake.raw_rows import RawRow, in_batches
from pipelines.mining.generated import GeneratedQueriesInput
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.progress import tell
from pipelines.texts.comparison import comparison_ids
from pipelines.texts.ids import text_id
from pipelines.texts.near_duplicates import alike, share

SOURCES_TOLD = 10
PASSAGE_COLUMNS = ("text", "passage", "title")


class Pair(NamedTuple):
    file: int
    source_row: int
    row: CheckedRow  # its negatives are not there yet; its positive may be labelled as none


class Known(NamedTuple):
    """What the whole input says. Texts are compared by their `comparison_ids`: a question is the same however typed."""

    queries: dict[str, str]  # query id -> query
    positives: dict[str, list[str]]  # query id -> the positives of exactly this text
    forbidden: dict[str, set[str]]  # query id -> what may not be drawn for it; variants of a question share one set
    of_question: dict[str, set[str]]  # the same sets by the question's comparison id
    given: dict[str, list[str]]  # query id -> passages labelled 0 for exactly this text: C# is not C++


class PassageLimits(NamedTuple):
    max_passages: int  # more distinct ones are refused
    near_duplicates: float | None = None  # the threshold of `alike`; None: what is nearly the same is another


class Passages:
    """Distinct texts sorted by id, so that nothing depends on the order in which they came."""

    def __init__(self, texts: Iterable[str], max_passages: int, near_duplicates: float | None = None) -> None:
        """See `PassageLimits`. What is nearly the same shares a comparison id, as what is the same."""
        by_id: dict[str, str] = {}
        for text in texts:
            by_id.setdefault(text_id(text), text)
            if len(by_id) > max_passages:
                raise UserError(
                    f"found more than {max_passages:,} distinct passages, expected at most that many, as they are held "
                    "in memory: give fewer, or raise mine.max_passages on a machine with the memory (about 2.5 KB each)"
                )
        ids = sorted(by_id)
        self.ids = np.array(ids, "S32")
        self.texts = [by_id[key] for key in ids]
        self.comparison_ids = comparison_ids(self.texts)
        self.counts_as: dict[str, str] = {}  # comparison id -> that of another passage, nearly the same
        self.is_near_duplicate = np.zeros(len(ids), bool)  # of each position: whether it counts as another passage
        self._near_duplicates, self._may_have_copies = near_duplicates, np.zeros(len(ids), bool)
        if near_duplicates is not None:
            firsts, self._may_have_copies = alike(self.texts, near_duplicates)
            self._count_as_one(firsts)

    def _count_as_one(self, firsts: Sequence[int]) -> None:
        own = self.comparison_ids
        self.comparison_ids = [own[first] for first in firsts]
        self.counts_as = {one: other for one, other in zip(own, self.comparison_ids, strict=True) if one != other}
        self.is_near_duplicate = np.array([one in self.counts_as for one in own])

    def __len__(self) -> int:
        return len(self.texts)

    def is_copy(self, position: int, texts: Sequence[str]) -> bool:
        """Whether a passage is nearly the same as one of these texts, which are passages, too.

        It may be so without counting as one with it, where only one of the two is near enough to a third.
        """
        if self._near_duplicates is None or not self._may_have_copies[position]:
            return False
        return any(share(self.texts[position], text) >= self._near_duplicates for text in texts)

    def positions(self, texts: Iterable[str]) -> NDArray[np.int64]:
        """Where these texts stand, which are all here."""
        return np.searchsorted(self.ids, np.array([text_id(text) for text in texts], "S32")).astype(np.int64)


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


def known_positives(pairs: list[Pair], judgements: Iterable[BeirSet]) -> Known:
    """The pairs' queries, and what is positive for them or is the query itself, whatever file or variant says so."""
    positives = [(row.query, positive) for _, _, row in pairs if row.is_positive for positive in row.positives]
    known = Known({text_id(query): query for query, _ in positives}, {}, {}, {}, {})
    for query, positive in positives:
        known.positives.setdefault(text_id(query), []).append(positive)
    for beir in judgements:
        positives += _judged_or_own(beir)
    for (query, _), question, passage in _compared(positives):
        forbidden = known.of_question.setdefault(question, {question})
        forbidden.add(passage)
        known.forbidden[text_id(query)] = forbidden
    _give_negatives(pairs, known)
    return known


def _judged_or_own(beir: BeirSet) -> Iterator[tuple[str, str]]:
    """(query, document) of what no query may have as its negative."""
    own = beir.own_documents()
    if own:
        told = f"{len(own):,} of {len(beir.qrels):,} queries stand in the corpus themselves"
        tell(f"{beir.data_set}: {told}: never as their own negative")
    its_own = ((query_id, document_id) for query_id, documents in own.items() for document_id in documents)
    for query_id, document_id in chain(beir.positives(), its_own):
        yield beir.queries[query_id], beir.corpus[document_id]


def _give_negatives(pairs: list[Pair], known: Known) -> None:
    """Passages labelled 0 become given negatives of their query, unless it has them as positives; says how many."""
    rejected = sorted({(row.query, passage) for _, _, row in pairs if not row.is_positive for passage in row.positives})
    given: dict[tuple[str, str], str] = {}
    unasked = 0
    for (query, passage), question, compared in _compared(rejected):
        query_id = text_id(query)
        unasked += query_id not in known.queries
        if query_id in known.queries and compared not in known.of_question[question]:
            given.setdefault((query_id, compared), passage)
    for (query_id, compared), passage in given.items():
        known.given.setdefault(query_id, []).append(passage)
        known.forbidden[query_id].add(compared)
    if rejected:
        tell(
            f"mine: {len(rejected):,} labelled 0: {len(given):,} are given negatives now, {unasked:,} are of queries "
            f"without a positive, {len(rejected) - len(given) - unasked:,} came before or are positive elsewhere"
        )


def _forbid_own(titled: list[tuple[str, str]], known: Known) -> None:
    """A passage that is a question but for its title is no negative of it: (text, title and text) of each."""
    for _, question, passage in _compared(titled):
        if question in known.of_question:
            known.of_question[question].add(passage)


def _forbid_relevant(judged: Iterable[tuple[str, str]], known: Known) -> None:
    """A passage that was judged to answer a query is no negative of it: (query, passage) of each."""
    for _, question, passage in _compared(list(judged)):
        if question in known.of_question:
            known.of_question[question].add(passage)


def _compared(pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], str, str]]:
    """Each (query, passage) with the `comparison_ids` of both."""
    queries, passages = [query for query, _ in pairs], [passage for _, passage in pairs]
    return zip(pairs, comparison_ids(queries), comparison_ids(passages), strict=True)


def all_passages(
    pairs: list[Pair],
    judgements: Iterable[BeirSet],
    passages: Iterable[InputFile],
    generated: Iterable[GeneratedQueriesInput],
    checks: RowChecks,
    limits: PassageLimits,
    known: Known,
) -> Passages:
    """Of the pairs, of the BEIR folders, of generated queries and of further files; tells what is held in memory.

    A further passage whose text without its title is a question becomes forbidden for it, and one that was judged to
    answer it; so does what is nearly the same as a passage that is forbidden.
    """
    for one in generated:
        _forbid_relevant(one.judged_relevant(), known)
    positives = (text for pair in pairs for text in pair.row.positives)
    corpora = (text for beir in judgements for text in beir.corpus.values())
    good = (text for text in corpora if text_problem(text, checks.max_text_chars) is None)
    further = (text for file in passages for text in _read_passages(file, checks, known))
    seeds = (text for one in generated for text in one.rows["passage"])
    collected = Passages(chain(positives, good, seeds, further), *limits)
    for forbidden in known.of_question.values():
        forbidden.update([collected.counts_as[one] for one in forbidden if one in collected.counts_as])
    held = f"{len(pairs):,} pairs and {len(collected):,} passages"
    num_bytes = sum(map(sys.getsizeof, collected.texts)) + 150 * len(collected)
    tell(f"mine: holds {held} in memory, {num_bytes >> 20:,} MB of passages")
    return collected


def tell_near_duplicates(passages: Passages, pairs: Iterable[Pair], sources: Mapping[str, Collection[str]]) -> None:
    """One line, the sources whose positives have most of them first.

    Args:
        sources: query id -> the sources that have it.
    """
    if not passages.counts_as:
        return
    of_source: dict[str, set[str]] = {}
    for _, _, row in pairs:
        for source in sources.get(text_id(row.query), ()) if row.is_positive else ():
            of_source.setdefault(source, set()).update(row.positives)
    near = {name: int(passages.is_near_duplicate[passages.positions(own)].sum()) for name, own in of_source.items()}
    worst = sorted(filter(near.__getitem__, near), key=lambda name: (-near[name], name))
    told = ", ".join(f"{near[name]:,} of the {len(of_source[name]):,} of {name}" for name in worst[:SOURCES_TOLD])
    more = f" and some of {len(worst) - SOURCES_TOLD:,} more sources" if len(worst) > SOURCES_TOLD else ""
    tell(
        f"mine: {len(passages.counts_as):,} of {len(passages):,} passages are nearly the same as another and count as "
        f"one with it (mine.near_duplicates){': of the positives ' + told + more if told else ''}"
    )


def _read_passages(file: InputFile, checks: RowChecks, known: Known) -> Iterator[str]:
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
        _forbid_own(titled, known)
    if not {"text", "passage"} & seen.keys():
        found = first_of(map(shown_name, seen), 30)
        raise UserError(f"{file.path} has the columns {found}; expected text or passage, and perhaps title: rename one")
    say_what_is_left_out(file, bad, rows, checks, what="passages", stage="mine")
