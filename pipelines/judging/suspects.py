"""Suspected false negatives: pairs of a query and a passage that a judge is asked about.

    one teacher's rows of whole queries --suspects_of--> query_id, passage_id, query, passage; each pair once

A row is suspected where the teacher scores its negative close to, or above, its positive. What is a positive of its
query in another row needs no judge to be one. Source: RLHN, Thakur et al. 2025, https://arxiv.org/abs/2505.16967 (false
negatives of training data, found and relabelled by an LLM; there it judges a query's negatives, all at once).
"""

from typing import NamedTuple

import polars as pl

from pipelines.curation.scored_rows import ScoredRows
from pipelines.judging.config import RelabelConfig
from pipelines.stage.errors import UserError

ROWS_PER_BLOCK = 200_000
PAIR = ["query_id", "passage_id"]
SCHEMA = {name: pl.String() for name in (*PAIR, "query", "passage")}
NO_QUERIES = pl.DataFrame(schema={"query_id": pl.String, "split": pl.String})


class Suspects(NamedTuple):
    """All of a version, less what `max_pairs` leaves out."""

    pairs: pl.DataFrame  # SCHEMA, by PAIR
    rows: int  # scored rows in all
    suspected: int  # of them, rows that are suspected
    queries: int  # that these rows have


def find_suspects(source: ScoredRows, config: RelabelConfig) -> Suspects:
    """Range by range; the pairs are held in memory. Raises UserError where there are more than `max_held_pairs`."""
    margin, found = config.margin(source.teacher_kind), [pl.DataFrame(schema=SCHEMA)]
    rows = suspected = queries = held = 0
    for block in source.blocks(source.scored.query_ranges(ROWS_PER_BLOCK), NO_QUERIES, is_held_out=False):
        near = suspected_rows(block, margin)
        rows, suspected, queries = rows + len(block), suspected + len(near), queries + near["query_id"].n_unique()
        found.append(suspects_of(block, near, config))
        held += len(found[-1])
        if held > config.max_held_pairs:
            raise UserError(
                f"found more than {config.max_held_pairs:,} suspected pairs, expected at most that many, as they are "
                "held in memory: lower relabel.suspect_margin or relabel.negatives_per_query, or raise "
                "relabel.max_held_pairs (about 2.5 KB each)"
            )
    pairs = pl.concat(found).sort(PAIR)
    return Suspects(pairs.head(config.max_pairs or len(pairs)), rows, suspected, queries)


def suspected_rows(rows: pl.DataFrame, suspect_margin: float) -> pl.DataFrame:
    """Those whose negative scores less than so much below the positive, with `margin`."""
    margin = pl.col("positive_score") - pl.col("negative_score")
    is_scored = pl.col("scoring_error").is_null() & margin.is_finite()
    is_pair = pl.col("positive_id") != pl.col("negative_id")
    return rows.with_columns(margin=margin).filter(is_scored & is_pair & (pl.col("margin") < suspect_margin))


def suspects_of(rows: pl.DataFrame, near: pl.DataFrame, config: RelabelConfig) -> pl.DataFrame:
    """The pairs to be judged of whole queries, of whose rows `near` are suspected; SCHEMA."""
    given = rows.select("query_id", passage_id="positive_id").unique()
    negatives = (
        near.select("query_id", "query", "margin", passage_id="negative_id", passage="negative")
        .join(given, on=PAIR, how="anti")
        .sort("query_id", "margin", "passage_id")
        .unique(PAIR, keep="first", maintain_order=True)
    )
    if config.negatives_per_query is not None:
        negatives = negatives.group_by("query_id", maintain_order=True).head(config.negatives_per_query)
    if not config.judge_positives:
        return negatives.select(*SCHEMA)
    positives = near.select("query_id", "query", passage_id="positive_id", passage="positive").unique(PAIR)
    return pl.concat([negatives.select(*SCHEMA), positives.select(*SCHEMA)])
