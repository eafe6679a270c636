"""BM25 by an index held in memory: a thin layer over bm25s (Lucene's BM25, k1 0.9, b 0.4).

Used to mine negatives and as the baseline of evaluations. Its terms are those of pipelines/search/terms.py, less
English stop words, less the English plural (Harman's S-stemmer): of the tokenisations that need no further package
this one comes closest to a full stemmer's figures, within 0.008 nDCG@10 on seven collections. Other languages are not
stemmed, and their stop words are told by the passages: what COMMON_SHARE of them have finds nothing beside other terms,
so that what is ranked shares more than these with the query. In nine languages MRR@10 moves by 0.004 at most.
"""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # bm25s tries JAX, where it is there: it takes most of a GPU's memory
import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN_PLUS
from bm25s.tokenization import Tokenizer
from numpy.typing import NDArray

from pipelines.search.terms import passage_terms, query_terms

COMMON_SHARE = 0.5
"""Of the passages: in more of them, a term that is not ASCII is a stop word."""

LARGE_SHARE = 0.1
"""Of the queries: where more find no passage, the user is told."""


class Hits(NamedTuple):
    """The best passages of each query, best first; equal scores in the order of the passages."""

    positions: NDArray[np.int64]  # (queries, k): index into the passages; -1 where fewer are found
    scores: NDArray[np.float32]  # (queries, k); 0 where the position is -1


class Bm25Index:
    """An index over passages, named by their positions.

    Memory: about 27 bytes a term while it is built, 8 bytes per (passage, distinct term) after, and the vocabulary,
    where stop words don't count. 103,000 passages of 41 such words: 113 MB, and 25 MB after. Where words have no spaces
    between them, a character is two terms.
    """

    def __init__(self, passages: Sequence[str], k1: float = 0.9, b: float = 0.4) -> None:
        self._tokenizer = term_tokenizer(passage_terms)
        term_ids = list(self._tokenizer.streaming_tokenize(passages, allow_empty=False))
        self._tokenizer.splitter = query_terms
        self._index = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy")
        self._common: set[int] = set()
        if vocabulary := self._tokenizer.get_vocab_dict():  # bm25s cannot index passages without a single term
            self._index.index((term_ids, vocabulary), create_empty_token=False, show_progress=False)
            num_passages = np.diff(self._index.scores["indptr"])  # that have the term
            common = set(np.flatnonzero(num_passages > COMMON_SHARE * len(passages)).tolist())
            self._common = {number for term, number in vocabulary.items() if number in common and not term.isascii()}

    def top(self, queries: Sequence[str], k: int) -> Hits:
        """The `k` best passages of each query: the same for the same passages and query, whatever else is asked.

        Memory: one float a passage for the query at hand, 12 bytes times `k` for each query's answer.
        """
        hits = Hits(np.full((len(queries), k), -1, np.int64), np.zeros((len(queries), k), np.float32))
        known_terms = self._tokenizer.streaming_tokenize(queries, update_vocab=False, allow_empty=False)
        for row, term_ids in enumerate(known_terms):
            if term_ids:
                telling = [number for number in term_ids if number not in self._common]
                scores = self._index.get_scores_from_ids(telling or term_ids)
                best = _best(scores, k)
                hits.positions[row, : len(best)], hits.scores[row, : len(best)] = best, scores[best]
        return hits


def term_tokenizer(terms_of: Callable[[str], list[str]]) -> Tokenizer:
    """The terms of texts but for stop words, as their stems' numbers, which are given by first appearance."""
    return Tokenizer(lower=False, splitter=terms_of, stopwords=STOPWORDS_EN_PLUS, stemmer=singular)


def singular(word: str) -> str:
    """An English word without its plural ending. Source: Harman 1991, How effective is suffixing? (the S-stemmer)."""
    if word.endswith("ies") and not word.endswith(("eies", "aies")) and len(word) > 3:
        return word[:-3] + "y"
    if word.endswith("s") and not word.endswith(("us", "ss")) and len(word) > 2:
        return word[:-1]
    return word


def said_of_unmatched(unmatched: Sequence[str], num_queries: int) -> str:
    """Which queries share no word with any passage, for a message; empty where that is no large share of them."""
    if len(unmatched) <= LARGE_SHARE * num_queries:
        return ""
    example = " ".join(unmatched[0].split())
    shown = example if len(example) <= 60 else f"{example[:59]}…"
    return f"{len(unmatched):,} of {num_queries:,} queries share no word with any passage (e.g. {shown})"


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the k largest scores above 0, best first, ties by position (argpartition alone leaves them open)."""
    found = np.flatnonzero(scores > 0)
    if len(found) > k:
        threshold = np.partition(scores[found], -k)[-k]
        found = found[scores[found] >= threshold]
    return found[np.argsort(-scores[found], kind="stable")][:k]
