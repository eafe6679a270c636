"""What a curation did: which rows it dropped, and the rows by source, outcome (kept, corrected, dropped) and reason.

The reason of a corrected row is its correction, of a dropped row its drop_reason, of a kept row "".
"""

from collections.abc import Iterable

import polars as pl

from pipelines.stage.errors import UserError
from pipelines.storage import TableVersion
from pipelines.storage.commits import CurationResult

KEYS = ["source", "outcome", "reason"]
OUTCOMES = ["kept", "corrected", "dropped"]
EQUAL_WHEN_CUT = (
    "; equal_when_cut: the passages of a row are the same as far as the teacher reads, which is score.max_tokens: "
    "raise it and score again, or ingest passages without their common beginning"
)


def is_scored() -> pl.Expr:
    """Whether the teacher could read both passages of a scored row."""
    return pl.all_horizontal(pl.col(f"{side}_score").is_finite().fill_null(False) for side in ("positive", "negative"))


def contradicted() -> pl.Expr:
    """Whether the teacher prefers the negative of a scored row, as it came: it has the higher score."""
    return is_scored() & (pl.col("negative_score") > pl.col("positive_score"))


def curation_of(curated: TableVersion) -> CurationResult:
    """What the curation reported that made these rows. Raises UserError for a version that curate did not write."""
    result = curated.written().commit.reports(CurationResult)
    if result is None:
        raise UserError(f"{curated} was not made by a curation; expected a version that `curate` printed")
    return result


def part_of(curated: TableVersion) -> str | None:
    """`28 of 2,800 triplets` where a curation was of a part of them; None where all were scored, or nobody knows."""
    result = curated.origin().commit.reports(CurationResult)
    return result.part if result else None


def dropped_by(curated: TableVersion) -> TableVersion | None:
    """The dropped_triplets of the same curation, told by its id; None where they are gone, or no curation made it."""
    made_by = curated.origin().commit.reports(CurationResult)
    newest = curated.tables.latest("dropped_triplets")
    for version, result in newest.results(CurationResult) if newest and made_by else ():
        if made_by and result.curation == made_by.curation != "":
            return version
    return None


def with_dropped(curated: TableVersion) -> tuple[TableVersion, TableVersion]:
    """A curated version and the dropped_triplets version of the same curation. Raises UserError where there is none."""
    if curated.name != "curated_triplets":
        raise UserError(f"{curated} is no curation; expected a version of curated_triplets")
    dropped = dropped_by(curated.usable())
    if dropped is None:
        raise UserError(f"{curated} has no dropped_triplets of the same curation: what it dropped is not known")
    return curated, dropped.usable()


def kept_outcome() -> list[pl.Expr]:
    """outcome and reason of a row of curated_triplets."""
    is_corrected = pl.col("correction").is_not_null()
    return [
        pl.when(is_corrected).then(pl.lit("corrected")).otherwise(pl.lit("kept")).alias("outcome"),
        pl.col("correction").fill_null("").alias("reason"),
    ]


def dropped_outcome() -> list[pl.Expr]:
    """outcome and reason of a row of dropped_triplets."""
    return [pl.lit("dropped").alias("outcome"), pl.col("drop_reason").alias("reason")]


def count(kept: pl.DataFrame, dropped: pl.DataFrame) -> pl.DataFrame:
    """source, outcome, reason, rows of one block."""
    outcomes = [kept.select("source", *kept_outcome()), dropped.select("source", *dropped_outcome())]
    return pl.concat(outcomes).group_by(KEYS).agg(rows=pl.len().cast(pl.Int64))


def total(counts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The counts of all blocks in one frame: sources by name, each from kept to dropped."""
    empty = pl.DataFrame(schema={**dict.fromkeys(KEYS, pl.String), "rows": pl.Int64})
    summed = pl.concat([empty, *counts]).group_by(KEYS).agg(pl.col("rows").sum())
    order = pl.col("outcome").replace_strict(OUTCOMES, [0, 1, 2], return_dtype=pl.Int8)
    return summed.sort("source", order, "reason")


def by_source(counts: pl.DataFrame) -> pl.DataFrame:
    """source, rows, kept, corrected, dropped, main_reason (why most rows were changed): one row a source, worst first.

    The worst is the source of whose rows the least stayed as they were.
    """
    of = {name: pl.col("rows").filter(pl.col("outcome") == name).sum() for name in OUTCOMES}
    is_changed = pl.col("outcome") != "kept"
    by_rows = pl.col("reason").filter(is_changed).sort_by(-pl.col("rows").filter(is_changed), maintain_order=True)
    sources = counts.group_by("source").agg(pl.col("rows").sum(), **of, main_reason=by_rows.first())
    return sources.sort(pl.col("kept") / pl.col("rows"), -pl.col("rows"), "source")


def too_many_dropped(counts: pl.DataFrame, max_drop_share: float) -> str | None:
    """What is wrong with a curation that drops a larger share of its rows; None when it doesn't."""
    dropped = counts.filter(pl.col("outcome") == "dropped")
    num_rows, num_dropped = int(counts["rows"].sum()), int(dropped["rows"].sum())
    if num_dropped <= max_drop_share * num_rows:
        return None
    largest = dropped.sort("rows", "source", "reason", descending=[True, False, False]).head(10)
    losses = "; ".join(f"{source}: {reason} {rows:,}" for source, _, reason, rows in largest.iter_rows())
    advice = EQUAL_WHEN_CUT if "equal_when_cut" in largest["reason"] else ""
    return (
        f"this curation would drop {num_dropped / num_rows:.1%} of {num_rows:,} rows, more than max_drop_share "
        f"{max_drop_share:.1%} ({losses}){advice}"
    )
