"""Texts that are nearly the same: an edited copy, another name in the same page. They share most runs of three words.

    add texts, find others  ->  of each the position of the known text that it is nearly the same as, or None

Two texts are compared by the runs of three words that either has after `normalise`: the share of them that both have
(Jaccard) is estimated by MinHash, and only texts that share a band of their sketches are compared (LSH). Each character
is a word where words have no spaces. Of texts of fewer than three words only the same are nearly the same, and of ten
words none that differ in one: what is short differs by its words.

Sources: Broder 1997, On the resemblance and containment of documents; Leskovec et al., Mining of Massive Datasets, 3.4.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import polars as pl
import regex
from rensa import RMinHash, RMinHashLSH

from pipelines.texts.comparison import normalised

NUM_HASHES = 120  # the estimate's standard deviation at a share of .9 is .027
FOUND = 0.99  # of the pairs whose share is just the threshold
RUN_WORDS = 3
TEXTS_AT_ONCE = 10_000
_SEED = 1
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|[^\s{_UNSPACED}]+")


class NearDuplicates:
    """Known texts by their sketches: about a kilobyte each, nothing of the text."""

    def __init__(self, threshold: float) -> None:
        """Two texts are nearly the same where they share `threshold` of the runs of words of both, above 0 to 1."""
        self._threshold = threshold
        self._lsh = RMinHashLSH(threshold, NUM_HASHES, num_bands(threshold))
        self._sketches: dict[int, RMinHash] = {}
        self._num_texts = 0

    def add(self, texts: Sequence[str]) -> None:
        """Each is known from now on, by the number of texts that were added before it."""
        for sketch in _sketches(texts):
            self._add(sketch)

    def add_new(self, texts: Sequence[str]) -> list[int]:
        """Of each the text that it counts as: the nearest of those before it, or itself, which then is a new one.

        What counts as another stands for nothing: a chain of small edits ends where it is too far from its first text.
        """
        found = []
        for sketch in _sketches(texts):
            nearest = self._nearest(sketch)
            found.append(self._num_texts if nearest is None else nearest)
            self._add(sketch if nearest is None else None)
        return found

    def find(self, texts: Sequence[str]) -> list[int | None]:
        """Of each the known text that is nearest, if it is nearly the same."""
        return [self._nearest(sketch) for sketch in _sketches(texts)]

    def _add(self, sketch: RMinHash | None) -> None:
        if sketch is not None:
            self._lsh.insert(self._num_texts, sketch)
            self._sketches[self._num_texts] = sketch
        self._num_texts += 1

    def _nearest(self, sketch: RMinHash | None) -> int | None:
        if sketch is None:
            return None
        shares = {known: self._sketches[known].jaccard(sketch) for known in sorted(self._lsh.query(sketch))}
        nearest = max(shares, key=shares.__getitem__, default=None)
        return nearest if nearest is not None and shares[nearest] >= self._threshold else None


def num_bands(threshold: float) -> int:
    """The fewest bands of the sketch by which `FOUND` of the pairs at the threshold share one."""
    for bands in range(1, NUM_HASHES):
        if NUM_HASHES % bands == 0 and 1 - (1 - threshold ** (NUM_HASHES // bands)) ** bands >= FOUND:
            return bands
    return NUM_HASHES


def _sketches(texts: Sequence[str]) -> Iterator[RMinHash | None]:
    """None for a text without words."""
    remaining = iter(texts)
    while block := list(islice(remaining, TEXTS_AT_ONCE)):
        runs = [_runs(text) for text in normalised(pl.Series(block, dtype=pl.String))]
        for sketch, own in zip(RMinHash.from_token_sets(runs, NUM_HASHES, _SEED), runs, strict=True):
            yield sketch if own else None


def _runs(text: str) -> list[str]:
    """Of a normalised text."""
    words = text.split() if text.isascii() else _WORD.findall(text)
    if 0 < len(words) < RUN_WORDS:
        return [" ".join(words)]
    return [" ".join(run) for run in zip(words, words[1:], words[2:], strict=False)]
