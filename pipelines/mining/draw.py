"""Negatives for each query: drawn from the passages that the miners rank for it, and from all of them at random.

    known queries, passages  --bm25, dense-->  candidates with miner, rank, score  --draw_negatives-->  negatives

Where the dense index is there, it also says which candidates of any miner may be unlabelled positives: those nearly as
near to the query as its positive, and the positives of queries like it.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from math import isnan, nan
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipelines.mining.known import Known, Sources
from pipelines.mining.passages import Passages
from pipelines.search.bm25 import Bm25Index, Hits, said_of_unmatched
from pipelines.stage.config import Config
from pipelines.stage.progress import Progress, tell

if TYPE_CHECKING:
    from pipelines.mining.dense import DenseIndex

QUERIES_AT_ONCE = 1 << 15
BM25_QUERIES = 256  # between two lines of progress
SOURCES_TOLD = 10
NOTHING = np.empty(0, np.int64)


class DrawConfig(Config):
    """Which of the ranked passages become negatives."""

    miners: tuple[Literal["bm25", "dense"], ...] = ("bm25",)
    """What ranks the passages: words (bm25), a bi-encoder's vectors (dense), or both, each for an equal share of the
    negatives; none leaves all to chance."""

    negatives_per_query: int = Field(4, ge=1)
    """Negatives for each query, random ones included; fewer only where the passages run out."""

    random_negatives: int = Field(1, ge=0)
    """How many of them are drawn from all passages. Where the rank range gives too few, random ones stand in."""

    first_rank: int = Field(10, ge=1)
    """The best rank that may become a negative. What ranks above it is often an unlabelled positive."""

    last_rank: int = Field(50, ge=1)
    """The worst rank that may become a negative, inclusive."""

    draw: Literal["random", "hardest", "stratified"] = "random"
    """Which of the rank range: any; the best ranks first; or one of each of as many equal parts of the range as
    negatives are drawn, so that hard and easy ones stand beside each other (Ettin rerankers; arXiv 2604.04734)."""

    max_positive_share: float | None = Field(0.95, gt=0, le=1)
    """Where there are vectors (dense, or consistent_within): a passage is no negative where its cosine for the query is
    this share of its positive's, or more (NV-Retriever's TopK-PercPos, arXiv 2407.15831); of several positives the
    farthest counts. null asks for none."""

    min_positive_margin: float | None = Field(None, ge=0)
    """There, too: nor where its cosine is not lower by so much (TopK-MarginPos, the same source)."""

    like_query_cosine: float | None = Field(0.95, gt=0, le=1)
    """There, too: nor where it is a positive of a query at least so near to this one. null asks for none."""

    near_duplicates: float | None = Field(0.9, gt=0, le=1)
    """Passages that share so many of their runs of three words count as one (pipelines/texts/near_duplicates.py): of
    them one at most is a query's negative, and none where one is its positive. null: only what is the same but for
    case, punctuation and spacing."""

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
        if len(set(self.miners)) < len(self.miners):
            raise ValueError(f"miners are {', '.join(self.miners)}; expected each once")
        return self


class Candidate(NamedTuple):
    """A passage that may become a query's negative."""

    position: int
    miner: str
    rank: int | None  # of all passages for the query, 1 is best; None where nothing was ranked
    score: float | None = None  # what the miner ranked by


class Drawn:
    """The negatives of queries, one after the other: 13 bytes each."""

    def __init__(self) -> None:
        self._stops, self._positions, self._ranks, self._scores = array("q"), array("i"), array("i"), array("f")
        self._miners, self._names = array("b"), list[str]()

    def append(self, negatives: Iterable[Candidate]) -> None:
        """Of the next query."""
        for one in negatives:
            if one.miner not in self._names:
                self._names.append(one.miner)
            self._miners.append(self._names.index(one.miner))
            self._positions.append(one.position)
            self._ranks.append(one.rank or 0)
            self._scores.append(nan if one.score is None else one.score)
        self._stops.append(len(self._positions))

    def __getitem__(self, query: int) -> list[Candidate]:
        """Of a query, counted from 0."""
        return [
            Candidate(
                self._positions[one],
                self._names[self._miners[one]],
                self._ranks[one] or None,
                None if isnan(self._scores[one]) else self._scores[one],
            )
            for one in range(self._stops[query - 1] if query else 0, self._stops[query])
        ]


class Ranked(NamedTuple):
    """A miner's best passages of some queries, and which of them may be negatives as far as the vectors tell."""

    miner: str
    hits: Hits
    may_be_negative: NDArray[np.bool_]  # (queries, k)

    def candidates(self, query: int, first_rank: int) -> list[Candidate]:
        """Of one query, those from a rank on."""
        positions, scores = self.hits.positions[query], self.hits.scores[query]
        allowed = (positions >= 0) & self.may_be_negative[query]
        return [
            Candidate(int(positions[place]), self.miner, int(place) + 1, float(scores[place]))
            for place in np.flatnonzero(allowed)
            if place + 1 >= first_rank
        ]


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
    known: Known,
    passages: Passages,
    config: DrawConfig,
    sources: Sources | None = None,
    dense: "DenseIndex | None" = None,
) -> Iterator[list[Candidate]]:
    """The negatives of every known query, in their order; fewer, or none, where passages run out.

    Says at the end of which sources many queries find no passage, and where random negatives stand in for ranked ones.

    Args:
        dense: over the known queries and these passages; it must be there if the config's miners have it.
    """
    shortfalls: dict[str, Shortfall] = defaultdict(Shortfall)
    miners = _Miners(known, passages, config, dense)
    positives, groups = miners.positives, passages.groups_of(known.forbidden)
    for start in range(0, len(known.queries), QUERIES_AT_ONCE):
        stop = min(start + QUERIES_AT_ONCE, len(known.queries))
        ranked, like = miners.rank(start, stop), miners.like_queries(start, stop)
        for number in range(start, stop):
            candidates = [one.candidates(number - start, config.first_rank) for one in ranked]
            questions = {int(known.question_of[one]) for one in (number, *(like[number - start] if like else ()))}
            forbidden = {group for question in questions for group in groups[question].tolist()}
            query_id = known.queries.ids[number].decode()
            negatives = draw_negatives(query_id, candidates, forbidden, passages, config, positives[number])
            num_ranked = sum(int((one.hits.positions[number - start] >= 0).sum()) for one in ranked)
            for source in sources.of(number) if sources else ():
                shortfalls[source].add(known.queries[number], num_ranked, negatives, config)
            yield negatives
    if config.miners:
        tell_unmatched(shortfalls)
        tell_stand_ins(shortfalls, config)
    miners.tell_refused()


class _Miners:
    """What ranks the passages for queries by ascending id, a run of them at a time."""

    def __init__(self, known: Known, passages: Passages, config: DrawConfig, dense: "DenseIndex | None") -> None:
        self.queries, self.config, self.dense = known.queries, config, dense
        self.positives = passages.positions(known.positives)
        self._bm25 = Bm25Index(passages.texts) if "bm25" in config.miners else None
        self._by_words = Progress("mine: bm25", "queries", done=0, total=len(known.queries))
        runs = -(-len(known.queries) // QUERIES_AT_ONCE)
        self._by_vectors = Progress("mine: dense", "passages compared", done=0, total=runs * len(passages))
        self._refused, self._asked = 0, 0

    def rank(self, start: int, stop: int) -> list[Ranked]:
        """Each miner's best `last_rank` passages of the queries from start to stop."""
        config, first = self.config, self.config.first_rank - 1
        found: dict[str, Hits] = {}
        if self._bm25:
            found["bm25"] = self._by_bm25(self._bm25, start, stop)
        if self.dense is None:
            return [Ranked(miner, hits, np.ones_like(hits.positions, bool)) for miner, hits in found.items()]
        of_queries, judged = self.positives.within(start, stop), np.empty((0, 2), np.int64)
        positives = np.stack([of_queries.owners(), of_queries.values], axis=1)
        if "bm25" in found:
            rows, columns = np.nonzero(found["bm25"].positions[:, first:] >= 0)
            judged = np.stack([rows, found["bm25"].positions[rows, columns + first]], axis=1)
        pairs = np.concatenate([positives, judged])
        hits, cosines = self.dense.rank(start, stop, config.last_rank, pairs, self._by_vectors)
        limits = positive_limits(cosines[: len(positives)], positives[:, 0], stop - start, config)
        ranked: list[Ranked] = []
        if "bm25" in found:
            allowed = np.ones_like(found["bm25"].positions, bool)
            allowed[rows, columns + first] = ~(cosines[len(positives) :] >= limits[rows])  # NaN is no reason
            ranked.append(Ranked("bm25", found["bm25"], allowed))
        if "dense" in config.miners:
            ranked.append(Ranked("dense", hits, hits.scores < limits[:, None]))
        for one in ranked:
            in_range = one.hits.positions[:, first:] >= 0
            self._asked += int(in_range.sum())
            self._refused += int((in_range & ~one.may_be_negative[:, first:]).sum())
        return ranked

    def like_queries(self, start: int, stop: int) -> list[NDArray[np.int64]]:
        """Of each query from start to stop, those like it; empty where that is not asked."""
        if self.dense is None or self.config.like_query_cosine is None:
            return []
        return self.dense.like_queries(start, stop, self.config.like_query_cosine)

    def tell_refused(self) -> None:
        if self._refused:
            tell(
                f"mine: {self._refused:,} of {self._asked:,} candidates within the ranks are no negatives: about as "
                "near to their query as its positive (mine.max_positive_share, mine.min_positive_margin)"
            )

    def _by_bm25(self, index: Bm25Index, start: int, stop: int) -> Hits:
        parts = []
        for first in range(start, stop, BM25_QUERIES):
            queries = self.queries[first : min(first + BM25_QUERIES, stop)]
            parts.append(index.top(queries, self.config.last_rank))
            self._by_words.advance(len(queries))
        return Hits(np.concatenate([one.positions for one in parts]), np.concatenate([one.scores for one in parts]))


def positive_limits(
    cosines: NDArray[np.float32], queries: NDArray[np.int64], num_queries: int, config: DrawConfig
) -> NDArray[np.float32]:
    """Below which cosine a passage may be a negative of each query; infinite where no positive has a vector.

    Args:
        cosines: of each positive with its query, NaN where one of them has no vector.
        queries: whose positive each is.
    """
    lowest = np.full(num_queries, np.inf, np.float32)
    np.fmin.at(lowest, queries, cosines)
    limits = np.full(num_queries, np.inf, np.float32)
    with np.errstate(invalid="ignore"):  # infinite less infinite: no positive, no limit
        if config.max_positive_share is not None:
            limits = np.fmin(limits, lowest - (1 - config.max_positive_share) * np.abs(lowest))
        if config.min_positive_margin is not None:
            limits = np.fmin(limits, lowest - config.min_positive_margin)
    return limits.astype(np.float32)


def draw_negatives(
    query_id: str,
    ranked: Sequence[list[Candidate]],
    forbidden: set[int],
    passages: Passages,
    config: DrawConfig,
    positives: NDArray[np.int64] = NOTHING,
) -> list[Candidate]:
    """One query's negatives: from what each miner ranks, in turn, then random ones; no two that count as one, none of a
    forbidden group, and none that is nearly one of the positives, which stand at these positions."""
    random = np.random.default_rng([config.seed, int(query_id, 16)])
    taken = set(forbidden)
    drawn: list[Candidate] = []
    num_ranked = config.negatives_per_query - config.random_negatives
    of_each = [_ordered(random, candidates, -(-num_ranked // len(ranked)), config) for candidates in ranked]
    in_turn = (one for several in zip_longest(*of_each) for one in several if one is not None)
    from_all = (Candidate(position, "random", None) for position in _random_order(random, len(passages)))
    for candidates, wanted in ((in_turn, num_ranked), (from_all, config.negatives_per_query)):
        while len(drawn) < wanted and (candidate := next(candidates, None)) is not None:
            group = int(passages.groups[candidate.position])
            if group not in taken and not passages.is_copy(candidate.position, positives):
                taken.add(group)
                drawn.append(candidate)
    return drawn


def _ordered(
    random: np.random.Generator, candidates: list[Candidate], wanted: int, config: DrawConfig
) -> Iterable[Candidate]:
    """In which order they are taken, where about `wanted` are."""
    if config.draw == "hardest":
        return candidates
    if config.draw == "random" or not candidates or not wanted:
        return (candidates[place] for place in random.permutation(len(candidates)))
    parts = [part for part in np.array_split(np.arange(len(candidates)), wanted) if len(part)]
    first = [int(random.choice(part)) for part in parts]
    others = (int(place) for place in random.permutation(len(candidates)))
    return (candidates[place] for place in chain(first, others))  # one that was taken is not taken again


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
        instead = "lower mine.first_rank" if config.first_rank > 1 else "raise mine.last_rank"
        tell(
            f"mine: negatives drawn at random, as too few passages have rank {config.first_rank} to {config.last_rank} "
            f"for their queries: {shown}{more}; {instead} or give more passages"
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
