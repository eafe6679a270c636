"""What the whole input says of its queries: their texts, positives and given negatives, and what may not be drawn.

Texts are compared by their `comparison_ids`: a question is the same however typed. Held of each query are ids, about
40 bytes for each passage named for it; its text is on disk (pipelines/texts/on_disk.py). Pairs labelled 0 are held.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.intake.beir import BeirSet
from pipelines.intake.layouts import CheckedRow
from pipelines.mining.lists import Lists
from pipelines.stage.progress import tell
from pipelines.texts.comparison import comparison_ids
from pipelines.texts.on_disk import DistinctTexts, Ids, ids_of, places

PAIRS_AT_ONCE = 10_000
Row = TypeVar("Row")


class Pair(NamedTuple):
    file: int
    source_row: int
    row: CheckedRow  # its negatives are not there yet; its positive may be labelled as none


@dataclass(frozen=True)
class Known:
    """Queries are counted by ascending id. Only those count that have a positive."""

    queries: DistinctTexts
    positives: Lists  # of each query: ids of the positives of exactly this text
    questions: Ids  # their comparison ids, ascending; variants of a question are one
    question_of: NDArray[np.int32]  # of each query
    forbidden: Lists  # of each question: comparison ids of what may not be drawn for it
    given: Lists  # of each query: ids of passages labelled 0 for exactly this text: C# is not C++

    def forbidding(self, named: Iterable[tuple[str, str]]) -> "Known":
        """Nor any of these passages for its query: (query, passage), as far as the query is one of ours."""
        more = Forbidden(self)
        more.add(named)
        return more.known()

    def with_positives(self, is_kept: NDArray[np.bool_]) -> "Known":
        """With some of the positives; the others are still none of the query's negatives."""
        return replace(self, positives=self.positives.where(is_kept))

    def only(self, queries: NDArray[np.int64]) -> "Known":
        """Some of the queries, ascending."""
        return replace(
            self,
            queries=self.queries.only(queries),
            positives=self.positives.only(queries),
            question_of=self.question_of[queries],
            given=self.given.only(queries),
        )


class Forbidden:
    """Collects what more may not be drawn."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._owners, self._values = [known.forbidden.owners()], [known.forbidden.values]

    def add(self, named: Iterable[tuple[str, str]]) -> None:
        """As `Known.forbidding`."""
        for queries, passages in _sides(named):
            question = places(self._known.questions, np.array(comparison_ids(queries), "S32"))
            ours = np.flatnonzero(question >= 0)
            self._owners.append(question[ours])
            self._values.append(np.array(comparison_ids([passages[one] for one in ours.tolist()]), "S32"))

    def known(self) -> Known:
        owners, values = np.concatenate(self._owners), np.concatenate(self._values)
        return replace(self._known, forbidden=Lists.of(owners, values, len(self._known.questions)))


@dataclass
class Sources:
    """Which sources' rows ask each query."""

    names: list[str]
    of_queries: Lists  # of each query: numbers of names

    def of(self, query: int) -> list[str]:
        return [self.names[number] for number in self.of_queries[query].tolist()]


def sources_of(pairs: Iterable[Pair], known: Known, of_files: Sequence[str]) -> Sources:
    """Args:
        of_files: the sources of rows that name none.
    """  # fmt: skip
    numbers = dict[str, int]()
    owners, values = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    for block in _blocks(pair for pair in pairs if pair.row.is_positive):
        named = [numbers.setdefault(pair.row.source or of_files[pair.file], len(numbers)) for pair in block]
        owners.append(known.queries.positions(pair.row.query for pair in block))
        values.append(np.array(named, np.int32))
    of_queries = Lists.of(np.concatenate(owners), np.concatenate(values), len(known.queries))
    return Sources(list(numbers), of_queries)


def known_positives(pairs: Iterable[Pair], judgements: Iterable[BeirSet]) -> Known:
    """The pairs' queries, and what is positive for them or is the query itself, whatever file or variant says so.

    Args:
        pairs: which can be gone through several times.
    """
    queries = DistinctTexts()
    queries.add(pair.row.query for pair in pairs if pair.row.is_positive)
    questions, question_of = compared_ids(queries)
    owners, values = [np.empty(0, np.int64)], [np.empty(0, "S32")]
    for asked, texts in _sides(_named(pairs, is_positive=True)):
        owners.append(queries.positions(asked))
        values.append(ids_of(texts))
    positives = Lists.of(np.concatenate(owners), np.concatenate(values), len(queries))
    themselves = Lists.of(np.arange(len(questions)), questions, len(questions))
    known = Known(queries, positives, questions, question_of, themselves, given=Lists.none(len(queries)))
    forbidden = Forbidden(known)
    forbidden.add(_named(pairs, is_positive=True))
    for beir in judgements:
        forbidden.add(_judged_or_own(beir))
    return _with_given(pairs, forbidden.known())


def compared_ids(texts: DistinctTexts) -> tuple[Ids, NDArray[np.int32]]:
    """The different comparison ids of texts, ascending, and which of them each text has."""
    compared, start = np.empty(len(texts), "S32"), 0
    for block in texts.blocks():
        compared[start : start + len(block)] = comparison_ids(block)
        start += len(block)
    different, number = np.unique(compared, return_inverse=True)
    return different, number.astype(np.int32)


def _named(pairs: Iterable[Pair], *, is_positive: bool) -> Iterator[tuple[str, str]]:
    """(query, passage) of the pairs that are labelled so."""
    rows = (pair.row for pair in pairs if pair.row.is_positive == is_positive)
    return ((row.query, passage) for row in rows for passage in row.positives)


def _judged_or_own(beir: BeirSet) -> Iterator[tuple[str, str]]:
    """(query, document) of what no query may have as its negative."""
    own = beir.own_documents()
    if own:
        told = f"{len(own):,} of {len(beir.qrels):,} queries stand in the corpus themselves"
        tell(f"{beir.data_set}: {told}: never as their own negative")
    its_own = ((query_id, document_id) for query_id, documents in own.items() for document_id in documents)
    for query_id, document_id in chain(beir.positives(), its_own):
        yield beir.queries[query_id], beir.corpus[document_id]


def _with_given(pairs: Iterable[Pair], known: Known) -> Known:
    """Passages labelled 0 become given negatives of their query, unless it has them as positives; says how many."""
    rejected = sorted(set(_named(pairs, is_positive=False)))
    given: dict[tuple[int, str], str] = {}
    unasked = 0
    for queries, passages in _sides(rejected):
        numbers = known.queries.positions(queries).tolist()
        for number, passage, compared in zip(numbers, passages, comparison_ids(passages), strict=True):
            unasked += number < 0
            if number >= 0 and compared.encode() not in known.forbidden[known.question_of[number]]:
                given.setdefault((number, compared), passage)
    if rejected:
        tell(
            f"mine: {len(rejected):,} labelled 0: {len(given):,} are given negatives now, {unasked:,} are of queries "
            f"without a positive, {len(rejected) - len(given) - unasked:,} came before or are positive elsewhere"
        )
    owners = np.array([number for number, _ in given], np.int64)
    known = replace(known, given=Lists.of(owners, ids_of(given.values()), len(known.queries)))
    queries = known.queries.read(owners)
    return known.forbidding(zip(queries, given.values(), strict=True))


def _sides(named: Iterable[tuple[str, str]]) -> Iterator[tuple[list[str], list[str]]]:
    """Queries and passages of the pairs, some at a time."""
    for block in _blocks(named):
        yield [query for query, _ in block], [passage for _, passage in block]


def _blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rows = iter(rows)
    while block := list(islice(rows, PAIRS_AT_ONCE)):
        yield block
