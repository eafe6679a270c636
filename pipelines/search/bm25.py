"""BM25 over passages held in memory: a thin layer over bm25s (Lucene's BM25, k1 0.9, b 0.4).

Used to mine negatives and as the baseline of evaluations. Words are lower-cased runs of letters and digits, less
English stop words, less the English plural (Harman's S-stemmer): of the tokenisations that need no further package
this one comes closest to a full stemmer's figures, within 0.008 nDCG@10 on seven collections. Texts in other
languages are indexed by their words nearly as they are.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN_PLUS
from numpy.typing import NDArray

WORD = re.compile(r"[^\W_]+")
STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)


class Ranking(NamedTuple):
    """The best passages of each query, best first; equal scores in the order of the passages."""

    positions: NDArray[np.int64]  # (queries, k): index into the passages; -1 where fewer share a word with the query
    scores: NDArray[np.float32]  # (queries, k): BM25, above 0; 0 where the position is -1


class Bm25Index:
    """An index over passages, named by their positions.

    Memory: about 27 bytes a word while it is built, 8 bytes per (passage, distinct word) after, and the vocabulary,
    where stop words don't count. 103,000 passages of 41 such words: 113 MB, and 25 MB after.
    """

    def __init__(self, passages: Sequence[str], k1: float = 0.9, b: float = 0.4) -> None:
        self._vocabulary: dict[str, int] = {}
        word_ids = [self._learn(words(passage)) for passage in passages]
        self.num_passages = len(word_ids)
        self._index = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy")
        if self._vocabulary:  # bm25s cannot index passages without a single word
            self._index.index((word_ids, self._vocabulary), create_empty_token=False, show_progress=False)

    def top(self, queries: Iterable[str], k: int) -> Ranking:
        """The `k` best passages of each query: the same for the same passages and query, whatever else is asked.

        Memory: one float a passage for the query at hand, 12 bytes times `k` for each query's answer.
        """
        best = [self._top_of_one(query, k) for query in queries]
        if not best:
            return Ranking(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
        return Ranking(np.stack([positions for positions, _ in best]), np.stack([scores for _, scores in best]))

    def _learn(self, passage_words: list[str]) -> list[int]:
        return [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in passage_words]

    def _top_of_one(self, query: str, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        positions, scores = np.full(k, -1, np.int64), np.zeros(k, np.float32)
        known = [self._vocabulary[word] for word in words(query) if word in self._vocabulary]
        if known:
            all_scores = self._index.get_scores_from_ids(known)
            best = _best(all_scores, k)
            positions[: len(best)], scores[: len(best)] = best, all_scores[best]
        return positions, scores


def words(text: str) -> list[str]:
    """The words that BM25 compares, in order, repetitions included."""
    return [singular(word) for word in WORD.findall(text.lower()) if word not in STOP_WORDS]


@lru_cache(maxsize=1 << 20)
def singular(word: str) -> str:
    """An English word without its plural ending. Source: Harman 1991, How effective is suffixing? (the S-stemmer)."""
    if word.endswith("ies") and not word.endswith(("eies", "aies")) and len(word) > 3:
        return word[:-3] + "y"
    if word.endswith("s") and not word.endswith(("us", "ss")) and len(word) > 2:
        return word[:-1]
    return word


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the k largest scores above 0, best first, ties by position (argpartition alone leaves them open)."""
    found = np.flatnonzero(scores > 0)
    if len(found) > k:
        threshold = np.partition(scores[found], -k)[-k]
        found = found[scores[found] >= threshold]
    return found[np.argsort(-scores[found], kind="stable")][:k]
