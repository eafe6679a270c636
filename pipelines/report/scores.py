"""What each teacher said: scores and margins as they were given, before any rule, binned; and how two teachers agree.

    scored_triplets@v  --score_figures-->  one row per teacher and source, and counts by bin
    scored_triplets@v  --agreement-->      rank correlation of two teachers on a share of the queries, where they differ

Scores are raw: nothing here compares numbers of two teachers but by their ranks.
"""

from typing import Any, NamedTuple

import polars as pl

from pipelines.curation.outcomes import contradicted, is_scored
from pipelines.report.judgement import shown_columns
from pipelines.report.sample import share_of_queries
from pipelines.report.subject import Subject

BINS = 60
SPREAD = 4.0  # standard deviations around the mean that the bins cover: what lies beyond is in the outermost ones
AGREEMENT_ROWS = 200_000  # triplets whose two scores are ranked, about
MOST_DIFFERENT = 5
GRID = 20  # bins of the picture of two teachers' ranks, each way

Row = dict[str, Any]
QUANTITIES = {  # name -> its value of a scored row
    "positive": pl.col("positive_score"),
    "negative": pl.col("negative_score"),
    "margin": pl.col("positive_score") - pl.col("negative_score"),
}


class ScoreFigures(NamedTuple):
    """Of all teachers that have scored the version."""

    teachers: pl.DataFrame  # teacher, rows, errors, contradicted, tokens_cut, and of each quantity mean, std, min, max
    sources: pl.DataFrame  # the same by teacher and source
    bins: pl.DataFrame  # teacher, source, quantity, bin (0 to BINS - 1), low, high, rows; those without rows left out


def score_figures(subject: Subject, sources: list[str]) -> ScoreFigures | None:
    """Two scans of four columns; None where no scored version can be read.

    Args:
        sources: those whose bins are told apart; the others are together under null.
    """
    if subject.scored is None:
        return None
    rows = subject.scored.scan().with_columns(**QUANTITIES)
    by_source = _sums(rows).collect(engine="streaming")
    teachers = _summed(by_source, "teacher")
    named = pl.when(pl.col("source").is_in(sources)).then("source").alias("source")
    scored = rows.filter(is_scored()).select("teacher", named, *QUANTITIES)
    lazy = [_binned(scored, teachers, quantity) for quantity in QUANTITIES]
    return ScoreFigures(
        teachers, _summed(by_source, "teacher", "source"), pl.concat(pl.collect_all(lazy, engine="streaming"))
    )


def _sums(rows: pl.LazyFrame) -> pl.LazyFrame:
    """teacher, source, and what of their rows can be added up. Only plain sums are streamed: no filter in them."""
    flags = {
        "rows": pl.lit(True),
        "scored": is_scored(),
        "contradicted": contradicted(),
        "rows_cut": (pl.col("positive_tokens_cut") > 0) | (pl.col("negative_tokens_cut") > 0),
        "positives_cut": pl.col("positive_tokens_cut") > 0,
        "negatives_cut": pl.col("negative_tokens_cut") > 0,
    }
    numbers = {name: flag.cast(pl.Int64) for name, flag in flags.items()}
    numbers["tokens_cut"] = pl.col("positive_tokens_cut").cast(pl.Int64) + pl.col("negative_tokens_cut")
    values = {name: pl.when(is_scored()).then(pl.col(name).cast(pl.Float64)) for name in QUANTITIES}
    squares = {f"{name}_squares": value * value for name, value in values.items()}
    columns = rows.select("teacher", "source", **numbers, **values, **squares)
    return columns.group_by("teacher", "source").agg(
        *(pl.col(name).sum() for name in (*numbers, *squares)),
        *(pl.col(name).sum().alias(f"{name}_sum") for name in values),
        *(pl.col(name).min().alias(f"{name}_min") for name in values),
        *(pl.col(name).max().alias(f"{name}_max") for name in values),
    )


def _summed(parts: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """The parts' sums by key, with means and standard deviations in place of sums of squares."""
    ends = [pl.col(f"{name}_min").min() for name in QUANTITIES] + [pl.col(f"{name}_max").max() for name in QUANTITIES]
    added = [name for name in parts.columns if name not in ("teacher", "source") and name[-4:] not in ("_min", "_max")]
    sums = parts.group_by(keys).agg(pl.col(added).sum(), *ends)
    for name in QUANTITIES:
        mean = pl.col(f"{name}_sum") / pl.col("scored")
        variance = (pl.col(f"{name}_squares") / pl.col("scored") - mean * mean).clip(0)
        sums = sums.with_columns(mean.alias(f"{name}_mean"), variance.sqrt().alias(f"{name}_std"))
    return sums.drop(f"{name}_{end}" for name in QUANTITIES for end in ("sum", "squares")).sort(keys)


def _binned(scored: pl.LazyFrame, teachers: pl.DataFrame, quantity: str) -> pl.LazyFrame:
    """teacher, source, bin, quantity, low, high, rows. Positives and negatives of a teacher have the same bins."""
    like = [quantity] if quantity == "margin" else ["positive", "negative"]
    lowest = pl.min_horizontal(_end(name, -1) for name in like)
    highest = pl.max_horizontal(_end(name, 1) for name in like)
    ranges = teachers.lazy().select("teacher", start=lowest, width=(highest - lowest).clip(1e-6) / BINS)
    bin_ = ((pl.col(quantity) - pl.col("start")) / pl.col("width")).floor().clip(0, BINS - 1).cast(pl.Int32)
    counts = (
        scored.select("teacher", "source", quantity)
        .join(ranges, on="teacher")
        .group_by("teacher", "source", "start", "width", bin=bin_)
        .agg(rows=pl.len().cast(pl.Int64))
    )
    low = pl.col("start") + pl.col("bin") * pl.col("width")
    columns = {"quantity": pl.lit(quantity), "low": low, "high": low + pl.col("width")}
    return counts.select("teacher", "source", "bin", **columns, rows="rows").sort("teacher", "source", "low")


def _end(name: str, sign: int) -> pl.Expr:
    """Where the bins of a quantity begin (sign -1) or end."""
    spread = pl.col(f"{name}_mean") + sign * SPREAD * pl.col(f"{name}_std")
    if sign < 0:
        return pl.max_horizontal(spread, f"{name}_min")
    return pl.min_horizontal(spread, f"{name}_max")


class Agreement(NamedTuple):
    """Two teachers on the same triplets: a share of the queries, chosen by their ids."""

    teachers: tuple[str, str]
    triplets: int
    share: float  # of the queries, that was looked at
    margin_correlation: float  # Spearman's, of the margins; nan where one teacher's are all equal
    same_sign: float  # share of triplets of which both put the same passage first
    by_source: pl.DataFrame  # source, triplets, same_sign, correlation; the least agreement first
    cells: pl.DataFrame  # first, second (rank shares, 0 to 1, of a cell's lower edge), rows
    examples: list[Row]  # rows as `judgement.examples` has them, with scores `first_*`, `second_*`


def agreement(subject: Subject, teachers: list[str]) -> Agreement | None:
    """The curation's teacher beside the other that has scored the most; None where there is none."""
    others = [name for name in teachers if name != subject.result.teacher]
    if subject.scored is None or not others or len(others) == len(teachers):
        return None
    pair = (subject.result.teacher, others[0])
    share, in_share = share_of_queries(subject.scored, AGREEMENT_ROWS * len(teachers))
    rows = subject.scored.scan().filter(in_share).select("triplet_id", "query_id", "source", "teacher", **QUANTITIES)
    sides = [
        rows.filter((pl.col("teacher") == name) & pl.col("margin").is_finite()).collect(engine="streaming")
        for name in pair
    ]
    both = sides[0].join(sides[1].select("triplet_id", *QUANTITIES), on="triplet_id", suffix="_other")
    if len(both) < 2:
        return None
    ranked = both.with_columns(
        first=pl.col("margin").rank() / len(both),
        second=pl.col("margin_other").rank() / len(both),
        is_same=(pl.col("margin") > 0) == (pl.col("margin_other") > 0),
    )
    correlation = pl.corr("margin", "margin_other", method="spearman").fill_nan(None)
    by_source = ranked.group_by("source").agg(
        triplets=pl.len().cast(pl.Int64), same_sign=pl.col("is_same").mean(), correlation=correlation
    )
    cells = ranked.group_by(pl.col("first", "second").mul(GRID).ceil().sub(1).clip(0, GRID - 1).truediv(GRID)).agg(
        rows=pl.len().cast(pl.Int64)
    )
    told = ranked.select(correlation, pl.col("is_same").mean()).row(0)
    return Agreement(
        pair, len(both), share, float("nan") if told[0] is None else told[0], told[1],
        by_source.sort("same_sign", "source"), cells.sort("first", "second"), _apart(subject, ranked),
    )  # fmt: skip


def _apart(subject: Subject, ranked: pl.DataFrame) -> list[Row]:
    """The triplets, one a query, whose margins stand at the most different ranks."""
    assert subject.scored is not None, "there are no two teachers without scores"
    apart = ranked.with_columns(apart=(pl.col("first") - pl.col("second")).abs())
    most = apart.sort("apart", "triplet_id", descending=[True, False]).unique(
        "query_id", keep="first", maintain_order=True
    )
    most = most.head(MOST_DIFFERENT)
    is_one = pl.col("query_id").is_in(most["query_id"].implode()) & pl.col("triplet_id").is_in(
        most["triplet_id"].implode()
    )
    of_teacher = pl.col("teacher") == subject.result.teacher
    texts = subject.scored.scan().filter(is_one & of_teacher).select(*shown_columns()).collect(engine="streaming")
    scores = most.select("triplet_id", "margin", "margin_other", "first", "second", "apart")
    return scores.join(texts, on="triplet_id", maintain_order="left").to_dicts()
