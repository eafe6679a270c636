"""Consistency: a pair stays if its positive is among the nearest passages of its query, as a bi-encoder sees them.

    pairs, passages, DenseIndex  --ranks among a sample of the passages-->  pairs that stay;  pairs that go, and why

Whoever scrapes pairs gets many whose two sides have nothing to do with each other. Source: Nomic Embed (arXiv
2402.01613), which keeps a pair whose positive is among the 2 nearest of a million.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pipelines.mining.known import Known, Pair
from pipelines.mining.passages import Passages
from pipelines.mining.spooled import Spooled
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.stage.printable import on_one_line
from pipelines.stage.progress import tell
from pipelines.stage.render import aligned_table, shown_share
from pipelines.stage.sample import ratio, sums
from pipelines.stage.terminal import cut
from pipelines.texts.ids import text_id
from pipelines.texts.on_disk import ids_of, places
from pipelines.texts.splits import in_share

if TYPE_CHECKING:
    from pipelines.mining.dense import DenseIndex

REASON = "positive_not_among_nearest"
SOURCES_TOLD = 10
LEAST_SHARE = 0.01
LEAST_QUERIES = 1_000  # a share of all is then known to 3 percentage points at worst


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
    pairs: Iterable[Pair], ranks: NDArray[np.int64], config: ConsistencyConfig, known: Known
) -> tuple[Spooled[Pair], Spooled[Gone], Known]:
    """The pairs that stay, with those of their positives that do, and the others; what is no positive stays.

    What is known is left with the positives that stay: they decide how near a negative may be. The others are still
    none of the query's negatives.

    Args:
        ranks: of the known positives, in their order.
    """
    most = config.consistent_within
    assert most is not None, "asked only where pairs are filtered"
    kept, gone = Spooled[Pair](), Spooled[Gone]()
    for pair in pairs:
        own = _own_ranks(pair, ranks, known) if pair.row.is_positive else {}
        near = [positive for positive, rank in own.items() if rank <= most]
        if own and not near:
            gone.append(Gone(pair, min(own.values())))
        else:
            kept.append(pair._replace(row=pair.row._replace(positives=near)) if own else pair)
    return kept, gone, known.with_positives(ranks <= most)


def _own_ranks(pair: Pair, ranks: NDArray[np.int64], known: Known) -> dict[str, int]:
    """Of each positive of a pair."""
    query = int(known.queries.positions([pair.row.query])[0])
    place = known.positives.start(query) + places(known.positives[query], ids_of(pair.row.positives))
    return dict(zip(pair.row.positives, ranks[place].tolist(), strict=True))


def positive_ranks(
    known: Known, passages: Passages, dense: "DenseIndex", config: ConsistencyConfig
) -> NDArray[np.int64]:
    """The rank of every known positive for its query, in their order: 1 and the passages of the sample that are nearer;
    0 where query or positive has no vector.

    Other positives of the same query are not counted before it.
    """
    positives = passages.positions(known.positives)
    pairs = np.stack([positives.owners(), positives.values], axis=1)
    nearer, cosines = dense.count_nearer(pairs, config.consistency_sample)
    return np.where(np.isnan(cosines), 0, 1 + nearer - _own_nearer(pairs, cosines, config.consistency_sample))


def _own_nearer(pairs: NDArray[np.int64], cosines: NDArray[np.float32], sample: int) -> NDArray[np.int64]:
    """Of each pair, how many other positives of its query are nearer and in the sample. The pairs ascend by query."""
    counts = np.zeros(len(pairs), np.int64)
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(pairs)], strict=True):
        if stop - start > 1:
            own, in_sample = cosines[start:stop], pairs[start:stop, 1] < sample
            counts[start:stop] = ((own[None] > own[:, None]) & in_sample[None]).sum(axis=1)
    return counts


def in_share_of(pairs: Iterable[Pair], known: Known, share: float | None) -> tuple[Spooled[Pair], Known]:
    """The positive pairs of a share of the queries, drawn by their ids, and what is known of these.

    Args:
        share: None is 1 %, or what about 1,000 queries are, if that is more: all, where there are no more.
    Raises:
        UserError: there is none.
    """
    if share is None:
        share = max(LEAST_SHARE, min(1.0, LEAST_QUERIES / max(1, len(known.queries))))
    ids = pl.DataFrame({"query_id": known.queries.ids.astype(str)}, schema={"query_id": pl.String})
    drawn = ids.with_row_index("query").filter(in_share(share))["query"].to_numpy().astype(np.int64)
    if not len(drawn):
        raise UserError(f"a share of {share:g} of {len(known.queries):,} queries has none; give a larger one: --share")
    of_share = known.only(drawn)
    return Spooled(pair for pair in pairs if pair.row.is_positive and _is_asked(pair, of_share)), of_share


def _is_asked(pair: Pair, known: Known) -> bool:
    return int(known.queries.positions([pair.row.query])[0]) >= 0


def foreseen(
    pairs: Iterable[Pair], drawn: Iterable[Pair], gone: Iterable[Gone], sources: Mapping[int, str]
) -> pl.DataFrame:
    """What becomes of all pairs, from those that were drawn and those of them that go, by source, the worst first.

    Args:
        sources: position of the file -> source of its rows that name none.
    Returns:
        source, pairs, drawn; left_out, the share that goes, with a 95 % interval (left_out_low, left_out_high), null
        for a source of which none was drawn.
    """

    def named(of: Iterable[Pair]) -> Iterator[str]:
        return (pair.row.source or sources[pair.file] for pair in of if pair.row.is_positive)

    lost = {(one.pair.file, one.pair.source_row) for one in gone}
    rows = pl.DataFrame(
        {
            "source": list(named(drawn)),
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


def tell_gone(gone: Iterable[Gone], pairs: Iterable[Pair], sources: Mapping[int, str], most: int) -> None:
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
