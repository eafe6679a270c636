"""What moved between two curations: rows by source, outcome before and outcome after.

A row is the scored triplet it came from, so a corrected row is compared under its original id. Both versions are
read range by range: memory is bounded by ROWS_PER_RANGE.
"""

from collections.abc import Iterator

import polars as pl

from pipelines.curation.outcomes import dropped_outcome, kept_outcome
from pipelines.curation.versions import dropped_by
from pipelines.stage.errors import UserError
from pipelines.storage import QueryRange, TableVersion
from pipelines.storage.tables import bucket_ranges

ROWS_PER_RANGE = 1_000_000
ABSENT = "absent"
KEYS = ["source", "before", "after"]


def moved(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """source, before, after, rows: of two frames of triplet_id, source, outcome; `absent` where one has no such row."""
    both = before.join(after, on="triplet_id", how="full", coalesce=True, suffix="_after")
    named = both.select(
        source=pl.coalesce("source", "source_after"),
        before=pl.col("outcome").fill_null(ABSENT),
        after=pl.col("outcome_after").fill_null(ABSENT),
    )
    return named.group_by(KEYS).agg(rows=pl.len().cast(pl.Int64))


def diff(before: TableVersion, after: TableVersion) -> pl.DataFrame:
    """source, before, after, rows: every row of two curated_triplets versions and what they dropped.

    An outcome is kept, corrected:REASON, dropped:REASON or absent; rows whose outcome stayed are counted as well.
    """
    sides = [_with_dropped(version) for version in (before, after)]
    counts = [
        moved(*(_outcomes(kept, dropped, query_range) for kept, dropped in sides))
        for query_range in _ranges([version for side in sides for version in side])
    ]
    empty = pl.DataFrame(schema={**dict.fromkeys(KEYS, pl.String), "rows": pl.Int64})
    return pl.concat([empty, *counts]).group_by(KEYS).agg(pl.col("rows").sum()).sort(KEYS)


def _with_dropped(curated: TableVersion) -> tuple[TableVersion, TableVersion]:
    """A curated version and the dropped_triplets version of the same curation."""
    if curated.name != "curated_triplets":
        raise UserError(f"{curated} cannot be compared; expected two versions of curated_triplets")
    dropped = dropped_by(curated)
    if dropped is None:
        raise UserError(f"{curated} has no dropped_triplets of the same curation: what it dropped is not known")
    return curated, dropped


def _ranges(versions: list[TableVersion]) -> Iterator[QueryRange]:
    """Ranges of buckets that hold at most about ROWS_PER_RANGE rows of all versions together."""
    buckets = [version.scan().select(pl.col("query_id").str.head(3).alias("bucket")) for version in versions]
    counts = pl.concat(buckets).group_by("bucket").len().sort("bucket").collect(engine="streaming")
    yield from bucket_ranges(counts["bucket"].to_list(), counts["len"].to_list(), ROWS_PER_RANGE)


def _outcomes(kept: TableVersion, dropped: TableVersion, query_range: QueryRange) -> pl.DataFrame:
    """triplet_id (as it was scored), source, outcome of one curation's rows in a range."""
    in_range = query_range.contains("query_id")
    original = pl.coalesce("original_triplet_id", "triplet_id").alias("triplet_id")
    rows = pl.concat(
        [
            kept.scan().filter(in_range).select(original, "source", *kept_outcome()),
            dropped.scan().filter(in_range).select("triplet_id", "source", *dropped_outcome()),
        ]
    )
    name = pl.when(pl.col("reason") == "").then(pl.col("outcome")).otherwise(pl.format("{}:{}", "outcome", "reason"))
    return rows.select("triplet_id", "source", outcome=name).collect()
