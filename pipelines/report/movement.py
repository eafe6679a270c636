"""What moved between two curations: the rules that differ, a flow of counts, a row or two of each stream.

inspection.diff(before, after)  --movement-->  before, after, rows over all sources; by source; examples; rules
"""

from typing import NamedTuple

import polars as pl

from pipelines.inspection.diff import diff_with_examples, rules
from pipelines.report.judgement import Row, rows_by_id, shown_columns
from pipelines.report.subject import Subject
from pipelines.storage import TableVersion

EXAMPLES_EACH = 2
MOST_FLOWS = 12  # with examples


class Movement(NamedTuple):
    """Rows as they were scored; an outcome is kept, corrected:REASON, dropped:REASON or absent."""

    before: TableVersion
    rules: pl.DataFrame  # rule, before, after, of those that differ
    stayed: int
    moved: int
    flows: pl.DataFrame  # before, after, rows; those that stayed as well; the largest first
    by_source: pl.DataFrame  # source, moved, rows; most moved first
    examples: list[Row]  # before, after; the row as it was and as it is: `was`, `is`, as `judgement.examples` has it


def movement(subject: Subject) -> Movement | None:
    """None where no other curation was named. Raises UserError where one of them has no dropped_triplets."""
    if subject.before is None:
        return None
    found = diff_with_examples(subject.before, subject.curated, EXAMPLES_EACH)
    flows = found.group_by("before", "after").agg(pl.col("rows").sum(), pl.col("triplet_ids").list.explode())
    flows = flows.sort("rows", "before", "after", descending=[True, False, False])
    is_moved = pl.col("before") != pl.col("after")
    by_source = found.group_by("source").agg(moved=pl.col("rows").filter(is_moved).sum(), rows=pl.col("rows").sum())
    stayed, moved = (int(flows.filter(which)["rows"].sum()) for which in (~is_moved, is_moved))
    return Movement(
        subject.before,
        rules(subject.before, subject.curated),
        stayed,
        moved,
        flows.drop("triplet_ids"),
        by_source.sort("moved", "source", descending=[True, False]),
        _examples(subject, flows.filter(is_moved).head(MOST_FLOWS)),
    )


def _examples(subject: Subject, flows: pl.DataFrame) -> list[Row]:
    """The first ids of each stream as whole rows: as they were scored, or what a curation made of them."""
    if subject.scored is None or subject.before is None or flows.is_empty():
        return []
    first = flows.with_columns(pl.col("triplet_ids").list.unique().list.sort().list.head(EXAMPLES_EACH))
    ids = first.select("before", "after", triplet_id="triplet_ids").explode("triplet_id")
    is_one = pl.col("triplet_id").is_in(ids["triplet_id"].implode()) & (pl.col("teacher") == subject.result.teacher)
    found = subject.scored.scan().filter(is_one).select(*shown_columns()).collect(engine="streaming")
    scored = {row["triplet_id"]: row for row in found.to_dicts()}
    rows = [{**row, "was": scored[row["triplet_id"]], "is": scored[row["triplet_id"]]} for row in ids.to_dicts()]
    for outcome, side, version in (("before", "was", subject.before), ("after", "is", subject.curated)):
        changed = [row for row in rows if row[outcome].startswith("corrected:")]
        queries = {row["triplet_id"]: scored[row["triplet_id"]]["query_id"] for row in changed}
        corrected = rows_by_id(version.scan(), "original_triplet_id", queries)
        for row in changed:
            row[side] = corrected[row["triplet_id"]]
    return rows
