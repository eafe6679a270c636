"""Varied copies of the passages in training: passages or pieces of them in which words were replaced by any others.

    curated@v  --copies_of-->  texts, to be encoded as plain ones

Nobody judges a copy: its label is the teacher's own vector. A student that reads copies follows its teacher further on
texts unlike its training's (measured: jobs/recipes/README.md). Sources: TinyBERT's word replacement (Jiao et al. 2020,
https://arxiv.org/abs/1909.10351, algorithm 1), here without a language model; texts of no sense suffice to copy a
model, Krishna et al. 2020, https://arxiv.org/abs/1910.12366.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import polars as pl

from pipelines.stage.errors import UserError
from pipelines.storage import TableVersion
from pipelines.storage.ranges import bucket_ranges, count_buckets

PIECES = 1 / 3
"""Of the copies, so many are a piece of their text, as short as a query."""
PIECE_WORDS = (2, 16)
MOST_REPLACED = 0.6
"""Of a copy's words, a share between none and this is replaced."""
WORDS_FROM = 200_000
"""So many passages, in the order of their ids, give the words that others are replaced by."""
PASSAGES_PER_READ = 200_000


def copies_of(curated: TableVersion, copies: int) -> Iterator[list[str]]:
    """So many copies of each passage that a version trains on, in batches; the same ones each time.

    More copies have the fewer among them. Memory: a batch, and the distinct words of `WORDS_FROM` passages.

    Raises:
        UserError: nothing is in training.
    """
    rows = curated.scan().filter(pl.col("split") == "train")
    sides = (rows.select(text_id=f"{side}_id", text=side) for side in ("positive", "negative"))
    passages = pl.concat(sides).unique("text_id")
    ranges = bucket_ranges(count_buckets(passages, "text_id"), PASSAGES_PER_READ)
    if not ranges:
        raise UserError(f"{curated} has no passage in training to vary")

    def read() -> Iterator[pl.DataFrame]:
        for id_range in ranges:
            yield passages.filter(id_range.contains("text_id")).collect(engine="streaming").sort("text_id")

    words = distinct_words(islice((text for batch in read() for text in batch["text"]), WORDS_FROM))
    for batch in read():
        yield [
            varied(text, f"{text_id} {number}", words)
            for text_id, text in batch.select("text_id", "text").iter_rows()
            if text.split()
            for number in range(copies)
        ]


def distinct_words(texts: Iterable[str]) -> list[str]:
    """What stands between spaces in the texts, each once, in order: rare words weigh as much as frequent ones."""
    words: set[str] = set()
    for text in texts:
        words.update(text.split())
    return sorted(words)


def varied(text: str, seed: str, words: Sequence[str]) -> str:
    """A copy of a text that is not blank, the same for the same seed and words; at least one word is replaced.

    Args:
        words: what a word may be replaced by; at least one.
    """
    found, chance = text.split(), random.Random(seed)
    if chance.random() < PIECES:
        num_words = min(len(found), chance.randint(*PIECE_WORDS))
        start = chance.randint(0, len(found) - num_words)
        found = found[start : start + num_words]
    share, certain = chance.uniform(0, MOST_REPLACED), chance.randrange(len(found))
    return " ".join(
        chance.choice(words) if place == certain or chance.random() < share else word
        for place, word in enumerate(found)
    )
