"""Texts that are nearly the same: an edited copy, another name in the same page. They share most runs of three words.

    alike(texts)  ->  of each the position of the text that it counts as         NearTexts(known).hold(others)

Two texts are compared by the runs of three words that either has after `normalise`: the share of them that both have
(Jaccard). Only texts whose MinHash sketches have a band in common are compared (LSH), then word by word. A character
is a word where words have no spaces. Of texts of fewer than three words only the same are nearly the same, and of ten
words none that differ in one: what is short differs by its words.

Sources: Broder 1997, On the resemblance and containment of documents; Leskovec et al., Mining of Massive Datasets, 3.4.
Shape letters, this file only: N = texts, H = hashes of a sketch, B = bands.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import regex
from numpy.typing import NDArray
from rensa import RMinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipelines.texts.comparison import normalised

NUM_HASHES = 120  # the estimate's standard deviation at a share of .9 is .027
MARGIN = 0.1  # what a sketch says less is compared in earnest
FOUND = 0.99  # of the pairs whose share is just the threshold
RUN_WORDS = 3
TEXTS_AT_ONCE = 2_000
_SEED = 1
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|[^\s{_UNSPACED}]+")
_FACTORS = np.random.default_rng(_SEED).integers(1 << 63, size=NUM_HASHES, dtype=np.uint64) | np.uint64(1)

Sketches = NDArray[np.uint32]  # (N, H)
Keys = NDArray[np.uint64]  # (N, B)


class Alike(NamedTuple):
    """What counts as what."""

    firsts: NDArray[np.int32]  # of each text the position of the one that it counts as
    may_have_copies: NDArray[np.bool_]  # of each: False where no other shares `threshold` with it


def alike(texts: Sequence[str], threshold: float) -> Alike:
    """A text counts as the nearest of those before it that count as themselves, if they share `threshold` of their runs
    of words, or else as itself.

    So a chain of small edits ends where it is too far from its first text. Memory: about 60 bytes a text, and half a
    kilobyte beside the text itself for each of a group that bands join, a group or TEXTS_AT_ONCE at a time; on disk 8
    bytes a band of each text.
    """
    bands = num_bands(threshold)
    groups, may_have_copies = _joined_by_bands(texts, bands)
    firsts, like_others = np.arange(len(texts), dtype=np.int32), np.flatnonzero(may_have_copies)
    for positions in _whole_groups(like_others, groups):
        firsts[positions] = positions[_firsts([texts[int(one)] for one in positions], bands, threshold)]
    return Alike(firsts, may_have_copies)


def _joined_by_bands(texts: Sequence[str], bands: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Of each text its group, which has all texts that have a band in common with one of it; whether that is any."""
    groups, is_joined = np.arange(len(texts), dtype=np.int32), np.zeros(len(texts), bool)
    with tempfile.TemporaryFile() as file:  # a band's numbers of all texts, then the next one's
        start = 0
        for block in _blocks(texts):
            for band, column in enumerate(_keys(_sketched(block), bands).T):
                os.pwrite(file.fileno(), column.tobytes(), 8 * (band * len(texts) + start))
            start += len(block)
        for band in range(bands):
            keys = np.frombuffer(os.pread(file.fileno(), 8 * len(texts), 8 * band * len(texts)), np.uint64)
            ones, others = _repeated(keys)
            if len(ones):
                is_joined[ones] = is_joined[others] = True
                links = coo_array((np.ones(len(ones), np.int8), (groups[ones], groups[others])), (len(keys), len(keys)))
                groups = connected_components(links, directed=False)[1][groups]
    return groups, is_joined


def _repeated(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where one band's numbers come more than once: such places in pairs, each with the next one."""
    order = np.argsort(keys)
    is_next = keys[order][1:] == keys[order][:-1]
    return order[:-1][is_next], order[1:][is_next]


def _whole_groups(positions: NDArray[np.int64], groups: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    """The positions by their groups, ascending in each: of as many groups at a time as have TEXTS_AT_ONCE texts."""
    positions = positions[np.argsort(groups[positions], kind="stable")]
    ends = np.flatnonzero(np.diff(groups[positions], append=-1)) + 1
    start = 0
    while start < len(positions):
        stop = int(ends[min(int(np.searchsorted(ends, start + TEXTS_AT_ONCE)), len(ends) - 1)])
        yield positions[start:stop]
        start = stop


def _firsts(texts: Sequence[str], bands: int, threshold: float) -> list[int]:
    """Of each text the row of the one that it counts as."""
    sketches = _sketches(texts)
    keys, firsts, in_band = (
        _keys(sketches, bands),
        list(range(len(texts))),
        defaultdict[tuple[int, int], list[int]](list),
    )
    for row, text in enumerate(texts):
        named = list(enumerate(keys[row].tolist()))
        known = np.array(sorted({one for band in named for one in in_band.get(band, ())}), np.int64)
        nearest = _nearest(text, sketches[row], texts, sketches, known, threshold)
        if nearest is not None:
            firsts[row] = nearest
        else:
            for band in named:
                in_band[band].append(row)
    return firsts


def share(first: str, second: str) -> float:
    """Of the runs of words that either text has, the share that both have: exactly, 0 to 1."""
    runs, others = map(set, _runs_of([first, second]))
    return len(runs & others) / len(runs | others)


class NearTexts:
    """Known texts and their sketches: less than a kilobyte each."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._texts, self._threshold, self._bands = texts, threshold, num_bands(threshold)
        self._sketches = _sketches(texts)
        keys = _keys(self._sketches, self._bands)
        self._order = np.argsort(keys, axis=0, kind="stable").astype(np.int32)
        self._keys = np.take_along_axis(keys, self._order, axis=0)

    def hold(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """For each text, whether one of them shares so much with it; shape (N,)."""
        return np.concatenate([self._hold(block, _sketched(block)) for block in _blocks(texts)])

    def _hold(self, texts: Sequence[str], sketches: Sketches) -> NDArray[np.bool_]:
        found = np.zeros(len(sketches), bool)
        for band, wanted in enumerate(_keys(sketches, self._bands).T):
            starts = np.searchsorted(self._keys[:, band], wanted, side="left")
            stops = np.searchsorted(self._keys[:, band], wanted, side="right")
            for row in np.flatnonzero((stops > starts) & ~found):
                known = self._order[starts[row] : stops[row], band].astype(np.int64)
                nearest = _nearest(texts[int(row)], sketches[row], self._texts, self._sketches, known, self._threshold)
                found[row] = nearest is not None
        return found


def _nearest(
    text: str,
    own: NDArray[np.uint32],
    texts: Sequence[str],
    sketches: Sketches,
    known: NDArray[np.int64],
    threshold: float,
) -> int | None:
    """Of the known ones, which are rows of texts and sketches, the nearest that truly shares so much with the text.

    Sketches alone would take one in five pairs that share .92 for less than .9, and whoever draws from what is left
    would draw just these.
    """
    shares = (sketches[known] == own).mean(axis=1)
    likely = known[np.argsort(-shares, kind="stable")[: int((shares >= threshold - MARGIN).sum())]]
    return next((int(one) for one in likely if share(text, texts[int(one)]) >= threshold), None)


def num_bands(threshold: float) -> int:
    """The fewest bands of the sketch by which `FOUND` of the pairs at the threshold have one in common."""
    for bands in range(1, NUM_HASHES):
        if NUM_HASHES % bands == 0 and 1 - (1 - threshold ** (NUM_HASHES // bands)) ** bands >= FOUND:
            return bands
    return NUM_HASHES


def _sketches(texts: Sequence[str]) -> Sketches:
    """Of many texts."""
    return np.concatenate([_sketched(block) for block in _blocks(texts)])


def _sketched(texts: Sequence[str]) -> Sketches:
    """MinHash of each text's runs of words; two texts agree in about the share of the runs that both have."""
    runs = _runs_of(texts)
    rows = RMinHash.digest_matrix_from_token_sets(runs, NUM_HASHES, _SEED).to_rows()
    return np.array(rows, np.uint32).reshape(len(texts), NUM_HASHES)


def _keys(sketches: Sketches, bands: int) -> Keys:
    """A number for each band of each sketch: equal bands have equal ones, others hardly ever."""
    products = sketches.astype(np.uint64) * _FACTORS
    keys: Keys = products.reshape(len(sketches), bands, NUM_HASHES // bands).sum(axis=2, dtype=np.uint64)
    return keys


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """At least one."""
    return (texts[start : start + TEXTS_AT_ONCE] for start in range(0, max(1, len(texts)), TEXTS_AT_ONCE))


def _runs_of(texts: Sequence[str]) -> list[list[str]]:
    return [_runs(text) for text in normalised(pl.Series(texts, dtype=pl.String))]


def _runs(text: str) -> list[str]:
    """Of a normalised text."""
    words = text.split() if text.isascii() else _WORD.findall(text)
    if len(words) < RUN_WORDS:
        return [" ".join(words)]
    return [" ".join(run) for run in zip(words, words[1:], words[2:], strict=False)]
