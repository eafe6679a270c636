"""Consistency: a pair stays if its positive is among the nearest passages of its query, as a bi-encoder sees them.

    pairs, passages, DenseIndex  --ranks among a sample of the passages-->  pairs that stay;  pairs that go, and why

Whoever scrapes pairs gets many whose two sides have nothing to do with each other. Source: Nomic Embed (arXiv
2402.01613), which keeps a pair whose positive is among the 2 nearest of a million.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pipelines.mining.inputs import Known, Pair, Passages
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.stage.printable import on_one_line
from pipelines.stage.progress import tell
from pipelines.stage.render import aligned_table, shown_share
from pipelines.stage.sample import ratio, sums
from pipelines.stage.terminal import cut
from pipelines.texts.ids import text_id
from pipelines.texts.splits import in_share

if TYPE_CHECKING:
    from pipelines.mining.dense import DenseIndex

REASON = "positive_not_among_nearest"
SOURCES_TOLD = 10
LEAST_SHARE = 0.01
LEAST_QUERIES = 1_000  # a share of all is then known to 3 percentage points at worst
Ranks = Mapping[tuple[str, str], int]
"""(query id, positive) -> rank; 0 where one of them has no vector."""


class ConsistencyConfig(Config):
    """Which pairs are believed."""

    consistent_within: int | None = Field(None, ge=1)
    """A pair stays if its positive is among so many nearest passages of its query, as the encoder sees them; others go
    to quarantined_rows with their rank. null keeps all. 2 of a million for scraped pairs (Nomic); one in 200 of the
    sample leaves out little but noise (jobs/recipes/README.md)."""

    consistency_sample: int = Field(1_000_000, ge=1)
    """Of so many passages: the same share for every query, chosen by their texts' hashes."""


class Gone(NamedTuple):
    """A pair that does not stay."""

    pair: Pair
    rank: int  # the best of its positives


def consistent(
    pairs: Sequence[Pair], ranks: Ranks, config: ConsistencyConfig, known: Known
) -> tuple[list[Pair], list[Gone]]:
    """The pairs that stay, with those of their positives that do, and the others; what is no positive stays.

    `known.positives` is left with the positives that stay: they decide how near a negative may be. The others are still
    none of the query's negatives.
    """
    most = config.consistent_within
    assert most is not None, "asked only where pairs are filtered"
    kept, gone = list[Pair](), list[Gone]()
    for pair in pairs:
        query_id = text_id(pair.row.query)
        own = {positive: ranks[query_id, positive] for positive in pair.row.positives} if pair.row.is_positive else {}
        near = [positive for positive, rank in own.items() if rank <= most]
        if own and not near:
            gone.append(Gone(pair, min(own.values())))
        else:
            kept.append(pair._replace(row=pair.row._replace(positives=near)) if own else pair)
    for query_id, positives in known.positives.items():
        positives[:] = [positive for positive in positives if ranks[query_id, positive] <= most]
    return kept, gone


def positive_ranks(
    known: Known, passages: Passages, dense: "DenseIndex", config: ConsistencyConfig
) -> dict[tuple[str, str], int]:
    """The rank of every known positive for its query: 1 and the passages of the sample that are nearer.

    Other positives of the same query are not counted before it.
    """
    query_ids = sorted(known.queries)
    named = [
        (number, positive) for number, one in enumerate(query_ids) for positive in dict.fromkeys(known.positives[one])
    ]
    positions = passages.positions(positive for _, positive in named)
    pairs = np.stack([np.array([number for number, _ in named], np.int64), positions], axis=1)
    nearer, cosines = dense.count_nearer(pairs, config.consistency_sample)
    ranks = np.where(np.isnan(cosines), 0, 1 + nearer - _own_nearer(pairs, cosines, config.consistency_sample))
    return {(query_ids[number], text): int(rank) for (number, text), rank in zip(named, ranks, strict=True)}


def _own_nearer(pairs: NDArray[np.int64], cosines: NDArray[np.float32], sample: int) -> NDArray[np.int64]:
    """Of each pair, how many other positives of its query are nearer and in the sample. The pairs ascend by query."""
    counts = np.zeros(len(pairs), np.int64)
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(pairs)], strict=True):
        if stop - start > 1:
            own, in_sample = cosines[start:stop], pairs[start:stop, 1] < sample
            counts[start:stop] = ((own[None] > own[:, None]) & in_sample[None]).sum(axis=1)
    return counts


def in_share_of(pairs: Sequence[Pair], known: Known, share: float | None) -> tuple[list[Pair], Known]:
    """The positive pairs of a share of the queries, drawn by their ids, and what is known of these.

    Args:
        share: None is 1 %, or what about 1,000 queries are, if that is more: all, where there are no more.
    Raises:
        UserError: there is none.
    """
    if share is None:
        share = max(LEAST_SHARE, min(1.0, LEAST_QUERIES / max(1, len(known.queries))))
    ids = pl.DataFrame({"query_id": list(known.queries)}, schema={"query_id": pl.String})
    drawn = set(ids.filter(in_share(share))["query_id"])
    if not drawn:
        raise UserError(f"a share of {share:g} of {len(known.queries):,} queries has none; give a larger one: --share")
    of_share = known._replace(
        queries={one: query for one, query in known.queries.items() if one in drawn},
        positives={one: list(texts) for one, texts in known.positives.items() if one in drawn},
    )
    return [pair for pair in pairs if pair.row.is_positive and text_id(pair.row.query) in drawn], of_share


def foreseen(
    pairs: Sequence[Pair], drawn: Sequence[Pair], gone: Sequence[Gone], sources: Mapping[int, str]
) -> pl.DataFrame:
    """What becomes of all pairs, from those that were drawn and those of them that go, by source, the worst first.

    Args:
        sources: position of the file -> source of its rows that name none.
    Returns:
        source, pairs, drawn; left_out, the share that goes, with a 95 % interval (left_out_low, left_out_high), null
        for a source of which none was drawn.
    """

    def named(of: Iterable[Pair]) -> list[str]:
        return [pair.row.source or sources[pair.file] for pair in of if pair.row.is_positive]

    lost = {(one.pair.file, one.pair.source_row) for one in gone}
    rows = pl.DataFrame(
        {
            "source": named(drawn),
            "query_id": [text_id(pair.row.query) for pair in drawn],
            "left_out": [(pair.file, pair.source_row) in lost for pair in drawn],
        },
        schema={"source": pl.String, "query_id": pl.String, "left_out": pl.Int64},
    )
    queries = rows.group_by("source", "query_id").agg(pl.col("left_out").sum(), rows=pl.len())
    summed = {row.pop("source"): row for row in queries.group_by("source").agg(**sums("left_out", "rows")).to_dicts()}
    found = []
    for source, total in sorted(Counter(named(pairs)).items()):
        share = ratio(summed[source]["x"] / total, **summed[source]) if source in summed else None
        low, high = share.interval() if share else (None, None)
        counts = {"source": source, "pairs": total, "drawn": int(share.per) if share else 0}
        found.append(counts | {"left_out": share and share.value, "left_out_low": low, "left_out_high": high})
    columns = {"source": pl.String, "pairs": pl.Int64, "drawn": pl.Int64}
    table = pl.DataFrame(found, columns | dict.fromkeys(["left_out", "left_out_low", "left_out_high"], pl.Float64))
    return table.sort("left_out", "source", descending=[True, False], nulls_last=True)


def foreseen_lines(table: pl.DataFrame) -> list[str]:
    """`foreseen` as text."""
    rows = [
        [cut(on_one_line(row["source"]), 40), f"{row['drawn']:,} of {row['pairs']:,}",
         shown_share(row["left_out"], row["left_out_low"], row["left_out_high"])]
        for row in table.iter_rows(named=True)
    ]  # fmt: skip
    return aligned_table(["source", "pairs asked", "left out [95 %]"], rows).split("\n")


def tell_gone(gone: Sequence[Gone], pairs: Sequence[Pair], sources: Mapping[int, str], most: int) -> None:
    """A line for each source that loses pairs, those that lose most of theirs first.

    Args:
        sources: position of the file -> source of its rows that name none.
    """
    of_source, ranks = dict[str, int](), defaultdict[str, list[int]](list)
    for pair in pairs:
        if pair.row.is_positive:
            name = pair.row.source or sources[pair.file]
            of_source[name] = of_source.get(name, 0) + 1
    for one in gone:
        ranks[one.pair.row.source or sources[one.pair.file]].append(one.rank)
    worst = sorted(ranks, key=lambda name: (-len(ranks[name]) / of_source[name], name))
    for name in worst[:SOURCES_TOLD]:
        count, total = len(ranks[name]), of_source[name]
        tell(
            f"mine: {name}: {count:,} of {total:,} pairs ({count / total:.1%}) left out: their positive is not among "
            f"the {most} nearest passages, but number {int(np.median(ranks[name])):,} in the median"
        )
    if len(worst) > SOURCES_TOLD:
        tell(f"mine: so are pairs of {len(worst) - SOURCES_TOLD:,} more sources; all are in quarantined_rows")
