"""Negatives for each query: drawn from the passages that the miners rank for it, and from all of them at random.

    known queries, passages  --MINERS-->  candidates with miner and rank  --draw_negatives-->  negatives

A further miner is a module beside this one, a line in MINERS, and in DrawConfig what turns it on.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from pydantic import Field, model_validator

from pipelines.mining.inputs import Known, Passages
from pipelines.search.bm25 import Bm25Index, Hits, said_of_unmatched
from pipelines.stage.config import Config
from pipelines.stage.progress import Progress, tell

QUERIES_AT_ONCE = 256
SOURCES_TOLD = 10


class DrawConfig(Config):
    """Which of the ranked passages become negatives."""

    negatives_per_query: int = Field(4, ge=1)
    """Negatives for each query, random ones included; fewer only where the passages run out."""

    random_negatives: int = Field(1, ge=0)
    """How many of them are drawn from all passages. Where the rank range gives too few, random ones stand in."""

    first_rank: int = Field(10, ge=1)
    """The best BM25 rank that may become a negative. What ranks above it is often an unlabelled positive."""

    last_rank: int = Field(50, ge=1)
    """The worst BM25 rank that may become a negative, inclusive."""

    seed: int = Field(0, ge=0)
    """Draws are seeded by this and the query's id."""

    @model_validator(mode="after")
    def _ranks_and_counts_fit(self) -> "DrawConfig":
        if self.last_rank < self.first_rank:
            raise ValueError(f"last_rank {self.last_rank} is above first_rank {self.first_rank}; expected a range")
        if self.random_negatives > self.negatives_per_query:
            raise ValueError(
                f"random_negatives {self.random_negatives} exceed negatives_per_query {self.negatives_per_query}, "
                "which includes them"
            )
        return self


Miner = Callable[[Sequence[str]], Callable[[Sequence[str], int], Hits]]
"""Given the passages' texts: what ranks the best k of them for each of some queries."""

MINERS: dict[str, Miner] = {"bm25": lambda texts: Bm25Index(texts).top}


class Candidate(NamedTuple):
    """A passage that may become a query's negative."""

    position: int
    miner: str
    rank: int | None  # of all passages for the query, 1 is best; None where nothing was ranked


@dataclass
class Shortfall:
    """Of one source's queries: what ranking could not give."""

    queries: int = 0
    unmatched: list[str] = field(default_factory=list)  # queries for which no passage is ranked
    negatives: int = 0
    stand_ins: int = 0  # random negatives in the place of ranked ones

    def add(self, query: str, num_ranked: int, negatives: list[Candidate], config: DrawConfig) -> None:
        """Count one query: how many passages are ranked for it, from rank 1 to the last, and what was drawn."""
        self.queries += 1
        self.unmatched += [] if num_ranked else [query]
        self.negatives += len(negatives)
        self.stand_ins += max(0, sum(one.rank is None for one in negatives) - config.random_negatives)


def mine_negatives(
    known: Known, passages: Passages, config: DrawConfig, sources: Mapping[str, Collection[str]]
) -> Iterator[tuple[str, list[Candidate]]]:
    """(query id, negatives) of every known query; fewer negatives, or none, where passages run out.

    Says at the end of which sources many queries find no passage, and where random negatives stand in for ranked ones.

    Args:
        sources: query id -> the sources that have it.
    """
    shortfalls: dict[str, Shortfall] = defaultdict(Shortfall)
    top = {miner: index(passages.texts) for miner, index in MINERS.items()}
    query_ids = sorted(known.queries)
    progress = Progress("mine", "queries", done=0, total=len(query_ids))
    for start in range(0, len(query_ids), QUERIES_AT_ONCE):
        batch = query_ids[start : start + QUERIES_AT_ONCE]
        queries = [known.queries[query_id] for query_id in batch]
        rankings = {miner: top_of(queries, config.last_rank).positions for miner, top_of in top.items()}
        for number, query_id in enumerate(batch):
            ranked = [
                Candidate(int(position), miner, rank)
                for miner, positions in rankings.items()
                for rank, position in enumerate(positions[number], 1)
                if rank >= config.first_rank and position >= 0
            ]
            negatives = draw_negatives(query_id, ranked, known.forbidden[query_id], passages, config)
            num_ranked = sum(int((positions[number] >= 0).sum()) for positions in rankings.values())
            for source in sources.get(query_id, ()):
                shortfalls[source].add(queries[number], num_ranked, negatives, config)
            yield query_id, negatives
        progress.advance(len(batch))
    tell_unmatched(shortfalls)
    tell_stand_ins(shortfalls, config)


def draw_negatives(
    query_id: str, ranked: list[Candidate], forbidden: set[str], passages: Passages, config: DrawConfig
) -> list[Candidate]:
    """One query's negatives: from its ranked candidates, then random ones; no two the same after `normalise`."""
    random = np.random.default_rng([config.seed, int(query_id, 16)])
    taken = set(forbidden)
    drawn: list[Candidate] = []
    from_ranks = (ranked[i] for i in random.permutation(len(ranked)))
    from_all = (Candidate(position, "random", None) for position in _random_order(random, len(passages)))
    for candidates, wanted in (
        (from_ranks, config.negatives_per_query - config.random_negatives),
        (from_all, config.negatives_per_query),
    ):
        while len(drawn) < wanted and (candidate := next(candidates, None)) is not None:
            if passages.comparison_ids[candidate.position] not in taken:
                taken.add(passages.comparison_ids[candidate.position])
                drawn.append(candidate)
    return drawn


def tell_unmatched(shortfalls: Mapping[str, Shortfall]) -> None:
    """One line for each source, of the first ones, whose queries find no passage."""
    said = {source: said_of_unmatched(one.unmatched, one.queries) for source, one in sorted(shortfalls.items())}
    lines = [f"mine: {source}: {line}: their negatives are random, not hard" for source, line in said.items() if line]
    for line in lines[:SOURCES_TOLD]:
        tell(line)
    if len(lines) > SOURCES_TOLD:
        tell(f"mine: so are those of many queries of {len(lines) - SOURCES_TOLD:,} more sources")


def tell_stand_ins(shortfalls: Mapping[str, Shortfall], config: DrawConfig) -> None:
    """One line, the sources with most of them first."""
    short = sorted((-one.stand_ins, source, one.negatives) for source, one in shortfalls.items() if one.stand_ins)
    if short:
        shown = ", ".join(f"{-count:,} of {total:,} of {source}" for count, source, total in short[:SOURCES_TOLD])
        more = f" and some of {len(short) - SOURCES_TOLD:,} more sources" if len(short) > SOURCES_TOLD else ""
        tell(
            f"mine: negatives drawn at random, as too few passages have rank {config.first_rank} to {config.last_rank} "
            f"for their queries: {shown}{more}; lower mine.first_rank or give more passages"
        )


def _random_order(random: np.random.Generator, size: int) -> Iterator[int]:
    """Each position once: drawn one by one at first, all in one permutation when that takes long."""
    seen: set[int] = set()
    for _ in range(100):
        position = int(random.integers(size))
        if position not in seen:
            seen.add(position)
            yield position
    yield from (int(position) for position in random.permutation(size) if position not in seen)
