"""Candidates for a query out of all passages, and which of them becomes its positive and its negative.

    query --BM25--> the best passages, the seed among them --grades--> positive, hard negative, all that answer it

The positive may be another passage than the one that the query was written from. Sources: relabelling, Gecko, Lee et
al. 2024, https://arxiv.org/abs/2403.20327; generated queries with retrieved negatives, GPL, Wang et al. 2022,
https://arxiv.org/abs/2112.07577.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pipelines.search.bm25 import Bm25Index


class Candidate(NamedTuple):
    passage: int  # its position among all passages
    rank: int | None  # BM25's, from 1; None for a seed that is not among the best


class Choice(NamedTuple):
    """Places among the candidates."""

    positive: int
    negative: int | None  # None where all candidates may answer the query
    relevant: list[int]  # that have the grade of a positive


class Candidates:
    """Passages in the order of their ids, searched by BM25."""

    def __init__(self, passages: Sequence[str], count: int) -> None:
        """`count`: of candidates for a query, the seed among them; 0 needs no index."""
        self.passages, self._count = passages, count
        self._index = Bm25Index(passages if count else [])

    def of(self, query: str, seed: int) -> list[Candidate]:
        """The best for a query, at most `count` of them with the seed, in the order of their ids: none stands first
        because BM25 likes it."""
        (found,) = self._index.top([query], self._count).positions.tolist()
        ranked = [Candidate(passage, rank) for rank, passage in enumerate(found, 1) if passage >= 0]
        if seed not in found:
            ranked = [*ranked[: self._count - 1], Candidate(seed, None)]
        return sorted(ranked)


def choose(
    candidates: Sequence[Candidate], grades: Sequence[int], seed: int, min_positive: int, max_negative: int
) -> Choice | None:
    """The best graded, of these the seed, of the others BM25's best; the hardest of those that do not answer.

    Returns:
        None where no candidate has the grade of a positive.
    """

    def rank(place: int) -> float:
        found = candidates[place].rank
        return float("inf") if found is None else found

    places = range(len(candidates))
    relevant = [place for place in places if grades[place] >= min_positive]
    if not relevant:
        return None
    positive = min(relevant, key=lambda place: (-grades[place], candidates[place].passage != seed, rank(place)))
    negatives = [place for place in places if grades[place] <= max_negative and candidates[place].rank is not None]
    return Choice(positive, min(negatives, key=rank, default=None), relevant)
