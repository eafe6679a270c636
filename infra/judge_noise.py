"""How well curation found what infra/damage.py did: precision, recall, and what it cost of the clean triplets.

A swap counts as found when the newest curation swapped it back; its precision is over all triplets of the source that
were swapped, false negatives among them. A false negative counts as found when it was dropped or changed at all; its
precision leaves the swapped triplets out, which are changed too.
"""

import argparse
from pathlib import Path

import polars as pl

SWAPPED_BACK = ["swapped", "duplicate_after_correction"]  # the duplicate of a triplet that was there already
NOT_BY_SCORE = ["positive_in_training", "text_in_evaluation_set", "scoring_failed"]


def verdicts(tables: str) -> pl.LazyFrame:
    """triplet_id as ingested and what the newest curation did with it; null for what it kept."""
    curated = pl.scan_delta(f"{tables}/curated_triplets").select(
        pl.coalesce("original_triplet_id", "triplet_id").alias("triplet_id"), pl.col("correction").alias("verdict")
    )
    dropped = pl.scan_delta(f"{tables}/dropped_triplets").select("triplet_id", pl.col("drop_reason").alias("verdict"))
    return pl.concat([curated, dropped])


def judge(judged: pl.DataFrame, damage: str, found: pl.Expr) -> str:
    """Precision and recall of `found` for one kind of damage."""
    num_damaged, num_found = judged.filter(damage=damage).height, judged.filter(found).height
    hits = judged.filter(found, damage=damage).height
    precision, recall = hits / max(1, num_found), hits / max(1, num_damaged)
    return f"{hits:,} of {num_damaged:,} found: precision {precision:.3f}, recall {recall:.3f}"


def clean_lost(truth: pl.DataFrame) -> str:
    clean = truth.filter(pl.col("damage").is_null())
    lost = clean.filter(pl.col("verdict").is_not_null()).height
    return f"{lost:,} of {clean.height:,} clean triplets lost or changed: {lost / clean.height:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", required=True)
    parser.add_argument("--truth", type=Path, required=True, help="what infra/damage.py wrote")
    arguments = parser.parse_args()
    judged = pl.read_parquet(arguments.truth).join(verdicts(arguments.tables).collect(), on="triplet_id")
    judged = judged.filter(~pl.col("verdict").is_in(NOT_BY_SCORE).fill_null(False))
    rotten = judged.filter(pl.col("damage").is_not_null().any().over("source"))
    print(f"swapped:          {judge(rotten, 'swapped', pl.col('verdict').is_in(SWAPPED_BACK))}")
    unswapped = rotten.filter(pl.col("damage").fill_null("") != "swapped")
    print(f"false negatives:  {judge(unswapped, 'false_negative', pl.col('verdict').is_not_null())}")
    print(f"damaged source:   {clean_lost(rotten)}")
    print(f"all sources:      {clean_lost(judged)}")


if __name__ == "__main__":
    main()
