"""Candidates for a query out of all passages, and which of them becomes its positive and its negative.

    query --BM25--> the best passages, the seed among them --grades or scores--> positive, hard negative, all that
    answer it

The positive may be another passage than the one that the query was written from. Sources: relabelling, Gecko, Lee et
al. 2024, https://arxiv.org/abs/2403.20327; generated queries with retrieved negatives, GPL, Wang et al. 2022,
https://arxiv.org/abs/2112.07577.
"""

from collections.abc import Sequence
from math import inf, isfinite
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
    places = range(len(candidates))
    relevant = [place for place in places if grades[place] >= min_positive]
    if not relevant:
        return None

    def worth(place: int) -> tuple[int, bool, float]:
        return -grades[place], candidates[place].passage != seed, _rank(candidates[place])

    others = [place for place in places if grades[place] <= max_negative]
    return Choice(min(relevant, key=worth), _hardest(candidates, others), relevant)


def prefer(candidates: Sequence[Candidate], scores: Sequence[float], seed: int, within: float) -> Choice | None:
    """The best scored, or the seed where it is `within` of that; the hardest of those that are not.

    Args:
        scores: a teacher's; one that is not finite says nothing of its candidate, which is then neither.
    Returns:
        None where no score is finite.
    """
    scored = [place for place in range(len(candidates)) if isfinite(scores[place])]
    if not scored:
        return None
    best = max(scored, key=lambda place: (scores[place], -_rank(candidates[place])))
    relevant = [place for place in scored if scores[place] >= scores[best] - within]
    positive = next((place for place in relevant if candidates[place].passage == seed), best)
    others = [place for place in scored if place not in relevant]
    return Choice(positive, _hardest(candidates, others), relevant)


def _hardest(candidates: Sequence[Candidate], places: Sequence[int]) -> int | None:
    """What BM25 ranks highest; None where it found none of them."""
    found = [place for place in places if candidates[place].rank is not None]
    return min(found, key=lambda place: _rank(candidates[place]), default=None)


def _rank(candidate: Candidate) -> float:
    return inf if candidate.rank is None else candidate.rank
