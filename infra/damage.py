"""Damages triplets of one source, or of all, in a known way, so that curation can be judged.

A share of them is swapped, in another a second true positive of the query takes the negative's place; the defaults are
those of the quickstart's rotten source. The same root, seed and shares give the same file.
Held-out queries and their passages are left alone, so that the measured figures ask for undamaged relevance.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from infra.docstring_pairs import SENTENCE_END
from jobs.recipe import load_recipe
from pipelines.storage import Tables
from pipelines.texts.ids import text_id, triplet_id
from pipelines.texts.splits import split_of

OUTPUT_COLUMNS = ["query", "positive", "negative", "source", "external_id"]


def second_half(passage: str) -> str | None:
    """The later sentences under the same name, as when long documents are cut in two; None for a short passage."""
    name, _, prose = passage.partition(": ")
    sentences = SENTENCE_END.split(prose)
    return f"{name}: {' '.join(sentences[len(sentences) // 2 :])}" if len(sentences) >= 3 else None


def other_positives(triplets: pl.DataFrame) -> dict[tuple[str, str], str]:
    """(query, positive) -> another true positive: one the query has anyway, else the positive's second half."""
    others: dict[tuple[str, str], str] = {}
    for query, positives in triplets.group_by("query").agg(pl.col("positive").unique().sort()).rows():
        for number, positive in enumerate(positives):
            other = positives[number - 1] if len(positives) > 1 else second_half(positive)
            if other is not None:
                others[query, positive] = other
    return others


def damage(
    triplets: pl.DataFrame, source: str | None, seed: int, swapped: float, false_negatives: float
) -> pl.DataFrame:
    """The same rows with `damage`: null, "swapped" or "false_negative", and the texts to match; no source is all."""
    triplets = triplets.sort("query", "positive", "negative")
    is_held_out = triplets["split"] != "train"
    held_out_passages = set(triplets.filter(is_held_out)["positive"])
    others = other_positives(triplets)
    rows = triplets.select("query", "positive", "negative").rows()
    num_damaged = {"swapped": 0, "false_negative": 0}
    is_of_source = triplets.select(pl.lit(True) if source is None else pl.col("source") == source).to_series()
    ours = np.flatnonzero(is_of_source & ~is_held_out)
    marks: list[str | None] = [None] * len(rows)
    for index in np.random.default_rng(seed).permutation(ours):
        query, positive, negative = rows[index]
        if negative in held_out_passages:
            continue
        if num_damaged["swapped"] < swapped * len(ours):
            marks[index], rows[index] = "swapped", (query, negative, positive)
        elif num_damaged["false_negative"] < false_negatives * len(ours) and (query, positive) in others:
            marks[index], rows[index] = "false_negative", (query, positive, others.pop((query, positive)))
        else:
            continue
        num_damaged[marks[index]] += 1
    texts = pl.DataFrame(rows, schema=["query", "positive", "negative"], orient="row")
    return triplets.with_columns(*texts, damage=pl.Series(marks, dtype=pl.String))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", required=True, help="root whose newest triplets are read")
    parser.add_argument("--source", help="the source to damage; all if not given")
    parser.add_argument("--swapped", type=float, default=0.3, help="share that is swapped")
    parser.add_argument("--false-negatives", type=float, default=0.1, help="share whose negative becomes a positive")
    parser.add_argument("--output", type=Path, required=True, help="Parquet file of triplets, to be ingested")
    parser.add_argument("--truth", type=Path, required=True, help="Parquet file: triplet_id, source, damage")
    parser.add_argument("--recipe", default="quickstart", help="of the curation to be judged: its held-out shares")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    mined = Tables.at(arguments.tables).latest("triplets")
    if mined is None:
        raise SystemExit(f"damage: no triplets under {arguments.tables}; mine some first: python -m jobs mine")
    curation = load_recipe(arguments.recipe, None).curate
    split = split_of(pl.col("query"), curation.dev_share, curation.test_share)
    triplets = mined.scan().select(OUTPUT_COLUMNS).with_columns(split=split).collect()
    shares = {"swapped": arguments.swapped, "false_negatives": arguments.false_negatives}
    damaged = damage(triplets, arguments.source, arguments.seed, **shares)
    ids = [triplet_id(*map(text_id, row)) for row in damaged.select("query", "positive", "negative").iter_rows()]
    damaged.select(OUTPUT_COLUMNS).write_parquet(arguments.output)
    damaged.select("source", "split", "damage", triplet_id=pl.Series(ids)).write_parquet(arguments.truth)
    of_source = damaged.filter(source=arguments.source) if arguments.source else damaged
    counts = of_source["damage"].value_counts(sort=True).rows()
    told = ", ".join(f"{count} {mark or 'left as they were'}" for mark, count in counts)
    print(f"{arguments.source or 'all sources'}: {told}")


if __name__ == "__main__":
    main()
