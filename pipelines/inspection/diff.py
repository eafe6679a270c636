"""What moved between two curations, rows by source, outcome before and outcome after; and which rules differ.

A row is the scored triplet it came from, so a corrected row is compared under its original id. Both versions are
read range by range: memory is bounded by ROWS_PER_RANGE.
"""

import json

import polars as pl

from pipelines.curation.outcomes import curation_of, dropped_outcome, kept_outcome, with_dropped
from pipelines.storage import QueryRange, TableVersion
from pipelines.storage.ranges import bucket_ranges, count_buckets

ROWS_PER_RANGE = 1_000_000
ABSENT = "absent"
SIDES = ["before", "after"]
KEYS = ["source", *SIDES]


def rules(before: TableVersion, after: TableVersion) -> pl.DataFrame:
    """rule, before, after: what is not the same of what two curations were told and went by, as text; null: nothing.

    A rule is a field of [curate], a table that was read, `evaluation_sets`, `teacher` or `note`. Thresholds for the
    kind of teacher that a curation did not go by are left out.
    """
    sides = [_told(version) for version in (before, after)]
    names = [name for name in dict.fromkeys((*sides[0], *sides[1])) if sides[0].get(name) != sides[1].get(name)]
    values = {side: [told.get(name) for name in names] for side, told in zip(SIDES, sides, strict=True)}
    return pl.DataFrame({"rule": names, **values}, dict.fromkeys(["rule", *SIDES], pl.String))


def _told(curated: TableVersion) -> dict[str, str]:
    result, commit = curation_of(curated), curated.written().commit
    told = {"note": commit.note} if commit.note else {}
    told["teacher"] = result.teacher
    told |= {one.version.partition("@")[0]: one.version for one in commit.inputs}
    if result.evaluation_sets:
        told["evaluation_sets"] = ", ".join(result.evaluation_sets)  # by their contents, whatever their paths
    for name, value in commit.config.items():
        if not isinstance(value, dict):
            told[f"curate.{name}"] = json.dumps(value)
        elif name == result.teacher_kind:  # the thresholds of each kind are a table
            told |= {f"curate.{name}.{threshold}": json.dumps(own) for threshold, own in value.items()}
    return told


def moved(before: pl.DataFrame, after: pl.DataFrame, num_examples: int = 0) -> pl.DataFrame:
    """source, before, after, rows: of two frames of triplet_id, source, outcome; `absent` where one has no such row.

    Args:
        num_examples: above 0 there is a column `triplet_ids`, too: up to so many of each group, the smallest.
    """
    both = before.join(after, on="triplet_id", how="full", coalesce=True, suffix="_after")
    named = both.select(
        "triplet_id",
        source=pl.coalesce("source", "source_after"),
        before=pl.col("outcome").fill_null(ABSENT),
        after=pl.col("outcome_after").fill_null(ABSENT),
    )
    examples = {"triplet_ids": pl.col("triplet_id").bottom_k(num_examples)} if num_examples else {}
    return named.group_by(KEYS).agg(rows=pl.len().cast(pl.Int64), **examples)


def diff(before: TableVersion, after: TableVersion) -> pl.DataFrame:
    """source, before, after, rows: every row of two curated_triplets versions and what they dropped.

    An outcome is kept, corrected:REASON, dropped:REASON or absent; rows whose outcome stayed are counted as well.
    """
    return diff_with_examples(before, after, 1).drop("triplet_ids")


def diff_with_examples(before: TableVersion, after: TableVersion, num_examples: int) -> pl.DataFrame:
    """`diff`, and in `triplet_ids` up to so many rows of each group: the smallest ids, which are hashes."""
    sides = [with_dropped(version) for version in (before, after)]
    query_ids = pl.concat([version.scan().select("query_id") for side in sides for version in side])
    counts = [
        moved(_outcomes(*sides[0], query_range), _outcomes(*sides[1], query_range), num_examples)
        for query_range in bucket_ranges(count_buckets(query_ids), ROWS_PER_RANGE)
    ]
    empty = pl.DataFrame(
        schema={**dict.fromkeys(KEYS, pl.String()), "rows": pl.Int64(), "triplet_ids": pl.List(pl.String)}
    )
    found = pl.concat([empty, *counts]).group_by(KEYS)
    ids = pl.col("triplet_ids").list.explode().bottom_k(num_examples)
    return found.agg(pl.col("rows").sum(), ids).sort(KEYS)


def _outcomes(kept: TableVersion, dropped: TableVersion, query_range: QueryRange) -> pl.DataFrame:
    """triplet_id (as it was scored), source, outcome of one curation's rows in a range."""
    in_range = query_range.contains("query_id")
    original = pl.coalesce("original_triplet_id", "triplet_id").alias("triplet_id")
    kept_rows = kept.scan().filter(in_range).select(original, "source", *kept_outcome())
    dropped_rows = dropped.scan().filter(in_range).select("triplet_id", "source", *dropped_outcome())
    name = pl.when(pl.col("reason") == "").then(pl.col("outcome")).otherwise(pl.format("{}:{}", "outcome", "reason"))
    return pl.concat([kept_rows, dropped_rows]).select("triplet_id", "source", outcome=name).collect()
