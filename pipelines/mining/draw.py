"""Negatives for each query: drawn from the passages that the miners rank for it, and from all of them at random.

    known queries, passages  --MINERS-->  candidates with miner and rank  --draw_negatives-->  negatives

A further miner is a module beside this one, a line in MINERS, and in DrawConfig what turns it on.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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


class Drawn(NamedTuple):
    """What one query got."""

    negatives: list[Candidate]  # fewer than configured, or none, where passages run out
    num_ranked: int  # passages that a miner ranks for the query, from rank 1 to the last

    def num_stand_ins(self, config: DrawConfig) -> int:
        """Random negatives in the place of ranked ones."""
        return max(0, sum(one.rank is None for one in self.negatives) - config.random_negatives)


def mine_negatives(known: Known, passages: Passages, config: DrawConfig) -> Iterator[tuple[str, Drawn]]:
    """(query id, what it got) of every known query."""
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
            yield query_id, Drawn(negatives, sum(int((best[number] >= 0).sum()) for best in rankings.values()))
        progress.advance(len(batch))


def draw_negatives(
    query_id: str, ranked: list[Candidate], forbidden: set[str], passages: Passages, config: DrawConfig
) -> list[Candidate]:
    """One query's negatives: from its ranked candidates, then random ones; no two alike but for space around."""
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
            if passages.stripped_ids[candidate.position] not in taken:
                taken.add(passages.stripped_ids[candidate.position])
                drawn.append(candidate)
    return drawn


def tell_shortfalls(drawn: Mapping[str, Mapping[str, Drawn]], config: DrawConfig) -> None:
    """Says which sources' queries find no passage, and where random negatives stand in for ranked ones.

    Args:
        drawn: source -> query -> what it got.
    """
    unmatched = {source: [q for q, one in of.items() if not one.num_ranked] for source, of in drawn.items()}
    said = {source: said_of_unmatched(queries, drawn[source]) for source, queries in unmatched.items()}
    lines = [f"mine: {source}: {line}: their negatives are random, not hard" for source, line in said.items() if line]
    for line in lines[:SOURCES_TOLD]:
        tell(line)
    if len(lines) > SOURCES_TOLD:
        tell(f"mine: so are those of many queries of {len(lines) - SOURCES_TOLD:,} more sources")
    stand_ins = Counter({source: sum(one.num_stand_ins(config) for one in of.values()) for source, of in drawn.items()})
    short = [
        f"{count:,} of {sum(len(one.negatives) for one in drawn[source].values()):,} of {source}"
        for source, count in stand_ins.most_common()
        if count
    ]
    if short:
        more = f" and some of {len(short) - SOURCES_TOLD:,} more sources" if len(short) > SOURCES_TOLD else ""
        tell(
            f"mine: negatives drawn at random, as too few passages have rank {config.first_rank} to {config.last_rank} "
            f"for their queries: {', '.join(short[:SOURCES_TOLD])}{more}; lower mine.first_rank or give more passages"
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
