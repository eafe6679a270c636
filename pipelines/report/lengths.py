"""How long the texts are, and what the teacher did not read of them.

    scored_triplets@v  --length_figures-->  characters by bin, on a share of the queries; rows cut, by source, of all

Tokens that were cut are recorded with each score (`positive_tokens_cut`); lengths are in characters, since no table
has tokens of what was read.
"""

from typing import NamedTuple

import polars as pl

from pipelines.report.judgement import TEXTS
from pipelines.report.sample import share_of_queries
from pipelines.report.subject import Subject
from pipelines.storage.commits import ScoringResult

SAMPLED_ROWS = 200_000
BINS_PER_DOUBLING = 2


class LengthFigures(NamedTuple):
    """Of the curation's teacher."""

    share: float  # of the queries, whose texts were measured
    triplets: int
    max_tokens: int | None  # that the teacher read of a query with its passage (a bi-encoder: of a text)
    bins: pl.DataFrame  # text (query, positive, negative), bin, low, high (characters), share of that kind's texts
    medians: dict[str, float]  # text -> characters
    cut: pl.DataFrame  # source, rows, positives_cut, negatives_cut, tokens_cut: where most is cut first


def length_figures(subject: Subject, by_source: pl.DataFrame) -> LengthFigures | None:
    """None where no scored version can be read.

    Args:
        by_source: `scores.ScoreFigures.sources`, whose rows of the curation's teacher say what was cut.
    """
    if subject.scored is None:
        return None
    share, in_share = share_of_queries(subject.scored, SAMPLED_ROWS)
    of_teacher = pl.col("teacher") == subject.result.teacher
    rows = subject.scored.scan().filter(in_share & of_teacher).select(pl.col(TEXTS).str.len_chars())
    chars = rows.collect(engine="streaming")
    octave = pl.col("chars").clip(1).log(2)
    counts = (
        chars.unpivot(variable_name="text", value_name="chars")
        .group_by("text", bin=(octave * BINS_PER_DOUBLING).floor().cast(pl.Int32))
        .agg(rows=pl.len())
        .with_columns(share=pl.col("rows") / len(chars))
    )
    edge = pl.lit(2.0).pow(pl.col("bin") / BINS_PER_DOUBLING)
    bins = counts.select("text", "bin", "share", low=edge, high=edge * 2 ** (1 / BINS_PER_DOUBLING)).sort("text", "low")
    cut = by_source.filter(of_teacher).select(
        "source", "rows", "rows_cut", "positives_cut", "negatives_cut", "tokens_cut"
    )
    return LengthFigures(
        share,
        len(chars),
        _max_tokens(subject),
        bins,
        dict(zip(TEXTS, chars.median().row(0), strict=True)) if len(chars) else {},
        cut.sort(pl.col("rows_cut") / pl.col("rows"), "rows", "source", descending=[True, True, False]),
    )


def _max_tokens(subject: Subject) -> int | None:
    """`score.max_tokens` of the newest scoring by the curation's teacher."""
    for version, result in subject.scored.results(ScoringResult) if subject.scored else ():
        found = version.commit.config.get("max_tokens")
        if result.teacher == subject.result.teacher and isinstance(found, int):
            return found
    return None
