"""The passages that negatives are drawn from, and which of them count as one.

Held of each passage: its id and place (pipelines/texts/on_disk.py), and 42 bytes of what it counts as; texts are read
as they are needed.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.mining.known import Known, Sources, compared_ids
from pipelines.mining.lists import Lists
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.texts.near_duplicates import alike, share
from pipelines.texts.on_disk import DistinctTexts, places

SOURCES_TOLD = 10
COUNTED_EVERY = 1_000


class PassageLimits(NamedTuple):
    max_passages: int  # more distinct ones are refused
    near_duplicates: float | None = None  # the threshold of `alike`; None: what is nearly the same is another


class Passages:
    """Distinct texts by ascending id, so that nothing depends on the order in which they came."""

    def __init__(self, texts: Iterable[str], max_passages: int, near_duplicates: float | None = None) -> None:
        """See `PassageLimits`. What is nearly the same is of one group, as what is the same."""
        self.texts = DistinctTexts()
        for some in _some_at_a_time(texts):
            self.texts.add(some)
            _refuse_more(self.texts.num_written, max_passages)
        _refuse_more(len(self.texts), max_passages)
        self._compared, own = compared_ids(self.texts)
        self.groups = own  # of each position: those of one group count as one passage
        self._counts_as = np.arange(len(self._compared), dtype=np.int32)  # of each group: itself, or another one
        self._near_duplicates, self._may_have_copies = near_duplicates, np.zeros(len(own), bool)
        if near_duplicates is not None:
            firsts, self._may_have_copies = alike(self.texts, near_duplicates)
            self.groups = own[firsts]
            differs = self.groups != own
            self._counts_as[own[differs]] = self.groups[differs]
        self.is_near_duplicate = self._counts_as[own] != own  # of each position: whether it counts as another passage

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def num_near_duplicates(self) -> int:
        """Of different passages, those that count as another."""
        return int((self._counts_as != np.arange(len(self._counts_as))).sum())

    def is_copy(self, position: int, others: NDArray[np.int64]) -> bool:
        """Whether a passage is nearly the same as one at these positions.

        It may be so without counting as one with it, where only one of the two is near enough to a third.
        """
        if self._near_duplicates is None or not self._may_have_copies[position]:
            return False
        text = self.texts[position]
        return any(share(text, other) >= self._near_duplicates for other in self.texts.read(others))

    def positions(self, lists: Lists) -> Lists:
        """Ids of passages, which are all here, as their positions."""
        return Lists(lists.stops, places(self.texts.ids, lists.values))

    def groups_of(self, lists: Lists) -> Lists:
        """Comparison ids as groups, where a passage has them, and as what these count as."""
        found, owners = places(self._compared, lists.values), lists.owners()
        groups, owners = found[found >= 0].astype(np.int32), owners[found >= 0]
        both = np.concatenate([groups, self._counts_as[groups]])
        return Lists.of(np.concatenate([owners, owners]), both, len(lists))


def _some_at_a_time(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while some := list(islice(texts, COUNTED_EVERY)):
        yield some


def _refuse_more(found: int, max_passages: int) -> None:
    if found > max_passages:
        raise UserError(
            f"found more than {max_passages:,} distinct passages, expected at most that many: give fewer, or raise "
            "mine.max_passages on a machine with the memory: about 100 bytes each, with bm25 among the miners 2.5 KB"
        )


def tell_near_duplicates(passages: Passages, known: Known, sources: Sources) -> None:
    """One line, the sources whose positives have most of them first."""
    if not passages.num_near_duplicates:
        return
    positives, codes = passages.positions(known.positives), sources.of_queries
    of_query = pl.DataFrame({"query": positives.owners(), "position": positives.values})
    of_source = pl.DataFrame({"query": codes.owners(), "source": codes.values})
    pairs = of_source.join(of_query, on="query").select("source", "position").unique()
    pairs = pairs.with_columns(is_near=pl.Series(passages.is_near_duplicate[pairs["position"].to_numpy()]))
    counted = pairs.group_by("source").agg(near=pl.col("is_near").sum(), total=pl.len()).filter(pl.col("near") > 0)
    worst = sorted((-near, sources.names[source], total) for source, near, total in counted.iter_rows())
    told = ", ".join(f"{-count:,} of the {total:,} of {name}" for count, name, total in worst[:SOURCES_TOLD])
    more = f" and some of {len(worst) - SOURCES_TOLD:,} more sources" if len(worst) > SOURCES_TOLD else ""
    tell(
        f"mine: {passages.num_near_duplicates:,} of {len(passages):,} passages are nearly the same as another and "
        f"count as one with it (mine.near_duplicates){': of the positives ' + told + more if told else ''}"
    )
