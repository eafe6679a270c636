"""What becomes of a query's triplets: kept, corrected into another row, or dropped with a reason. All rules are here.

    one teacher's rows of whole queries  --decide-->  the same rows + drop_reason, correction, corrected

An outcome is one row's, but a passage has one role in a query: what is a positive of one row is a negative of none.
So the roles are settled first, over all rows of the query, and then each row follows. Where a judge was asked (RLHN,
Thakur et al. 2025, https://arxiv.org/abs/2505.16967), its verdict settles a passage's role, whatever the teacher says;
whether the teacher's margin is large enough to train on stays the teacher's to say. A rule is a named condition in one
of the lists of `first_that_fires`; its threshold is a field below, for each kind of teacher.
"""

from collections.abc import Collection
from typing import Any, Literal

import polars as pl
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from pipelines.curation.evaluation_texts import EvaluationTexts
from pipelines.curation.judgements import NO_VERDICTS
from pipelines.stage.config import Config
from pipelines.texts.ids import triplet_id

Correction = Literal["swapped", "promoted", "relabelled"]
MINED = ("miner", "rank", "miner_score")  # what triplets say of a negative's choice
ENDS = ("", "_id", "_score", "_relevance", "_verdict", *(f"_{name}" for name in MINED))  # of a side's column names

SAME_SCORE = 1e-5


class PositiveFilter(Config):
    """Which positives are believed, in the units of the teacher's scores."""

    min_positive_score: float | None = None
    """A row whose positive scores less is dropped, however much less its negative has: pairs scraped from the web may
    have nothing to do with each other. null keeps them. A positive that a judge calls relevant stands."""

    @model_serializer(mode="wrap")
    def without_what_is_off(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without it a curation is what it was before there was any: it keeps its fingerprint."""
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name != "min_positive_score" or value is not None}


class CrossEncoderThresholds(PositiveFilter):
    """What counts as irrelevant, relevant and different, in logits: 0 is a relevance of one half."""

    min_teacher_margin: float = Field(default=0.5, gt=0)
    """Smallest score(positive) - score(negative) to keep. At 0 or below the teacher ranks the row the wrong way."""

    swap_margin: float = Field(default=0.5, ge=0)
    """The teacher prefers a negative when it scores higher than the positive by more than this."""

    irrelevant_below: float = 0.0
    """A positive that scores less is irrelevant: the row may be swapped. Any other positive stands."""

    relevant_from: float = 0.0
    """A negative that scores this or more is relevant: it may become a positive, by either correction."""

    false_negative_margin: float = 0.5
    """A relevant negative is a false negative when it scores less than this below a positive that stands."""


class BiEncoderThresholds(PositiveFilter):
    """In cosines. Their level differs from query to query, so the two bounds overlap: only the extremes are certain.

    Tried with all-MiniLM-L6-v2 on docstrings with 4 BM25 negatives a query, 30 % of the rows swapped: of the rows
    called `swapped` .96 were, and .91 of those that were are called so.
    """

    min_teacher_margin: float = Field(default=0.005, gt=0)
    """Smallest score(positive) - score(negative) to keep."""

    swap_margin: float = Field(default=0.0, ge=0)
    """The teacher prefers a negative that scores higher than the positive by more than this."""

    irrelevant_below: float = 0.6
    """A positive that scores less may be irrelevant: the row may be swapped."""

    relevant_from: float = 0.3
    """A negative that scores this or more may become a positive."""

    false_negative_margin: float = 0.0
    """A relevant negative is a false negative when it scores less than this below a relevant positive."""


Thresholds = CrossEncoderThresholds | BiEncoderThresholds


def decide(
    rows: pl.DataFrame,
    thresholds: Thresholds,
    corrections: Collection[Correction],
    evaluation_texts: EvaluationTexts,
    in_training: pl.Series,
    *,
    ask_teacher: bool = True,
    verdicts: pl.DataFrame = NO_VERDICTS,
) -> pl.DataFrame:
    """Each row's final outcome: kept, corrected, or dropped with the first reason that fires, in this order.

    - positive_in_training: its query is held out, and leaves whole;
    - scoring_failed, positive_is_negative, score_not_finite, text_in_evaluation_set (or nearly): it cannot be judged;
    - no_negative_left, duplicate_after_correction: it would be swapped, or else relabelled or promoted, but in vain;
    - positive_judged_irrelevant, judged_relevant: the judge says so of its positive, or of its negative;
    - equal_when_cut: the teacher read the same of both passages, which are longer than its max_tokens;
    - teacher_prefers_negative, margin_too_small, negative_too_relevant: the teacher contradicts it;
    - positive_too_irrelevant: what is or would become its positive has a score below `min_positive_score`.

    Args:
        rows: one teacher's scored triplets, all rows of each query.
        in_training: ids of passages that no query here may have as a positive, as it came or as corrected.
        ask_teacher: False leaves each row that can be judged as it came.
        verdicts: a judge's on passages in their queries: query_id, passage_id, is_relevant.
    Returns:
        The rows as they came and `drop_reason`; of a corrected row also `correction` and its new form, `corrected`, a
        struct of the columns that change; null where they don't apply.
    """
    rows = rows.with_columns(drop_reason=_cannot_be_judged(rows, evaluation_texts))
    unusable = rows.filter(pl.col("drop_reason").is_not_null())
    corrections = corrections if ask_teacher else ()
    judged = _with_verdicts(rows.filter(pl.col("drop_reason").is_null()), verdicts)
    judged = _with_roles(judged, thresholds, corrections)
    corrected = _corrected(judged, thresholds, taken=rows["triplet_id"])
    uncorrected = judged.filter(pl.col("correction").is_null())
    uncorrected = uncorrected.with_columns(
        drop_reason=_contradicted(thresholds) if ask_teacher else pl.col("drop_reason")
    )
    decided = pl.concat([unusable, corrected, uncorrected], how="diagonal")
    leaves = first_that_fires(positive_in_training=pl.col("query_id").is_in(_with_positive_in(decided, in_training)))
    decided = decided.with_columns(drop_reason=pl.coalesce(leaves, "drop_reason"))
    return decided.select(*rows.columns, "correction", "corrected")


def _cannot_be_judged(rows: pl.DataFrame, evaluation_texts: EvaluationTexts) -> pl.Expr:
    """The rules that ask no teacher."""
    is_finite = pl.col("positive_score").is_finite() & pl.col("negative_score").is_finite()
    return first_that_fires(
        scoring_failed=pl.col("scoring_error").is_not_null(),
        positive_is_negative=pl.col("positive_id") == pl.col("negative_id"),
        score_not_finite=~is_finite.fill_null(False),
        text_in_evaluation_set=evaluation_texts.stand_in(rows),
    )


def _contradicted(thresholds: Thresholds) -> pl.Expr:
    """The rules that ask the judge, then the teacher, of a row that is not corrected."""
    return first_that_fires(
        positive_judged_irrelevant=_is_judged("positive", relevant=False),
        judged_relevant=_is_judged("negative", relevant=True),
        equal_when_cut=_is_equal_when_cut() & ~pl.col("is_agreed"),
        teacher_prefers_negative=pl.col("margin") < 0,
        margin_too_small=~pl.col("is_agreed"),
        negative_too_relevant=pl.col("negative_is_positive") | pl.col("is_false_negative"),
        positive_too_irrelevant=_hardly_answers("positive", thresholds),
    )


def _hardly_answers(side: str, thresholds: Thresholds) -> pl.Expr:
    """Whether the passage of that side scores too little for a positive, and no judge calls it relevant."""
    least = thresholds.min_positive_score
    return pl.lit(False) if least is None else (pl.col(f"{side}_score") < least) & ~_is_judged(side, relevant=True)


def _is_equal_when_cut() -> pl.Expr:
    """Both passages were cut, and score the same but for what another place in a batch changes."""
    was_cut = (pl.col("positive_tokens_cut") > 0) & (pl.col("negative_tokens_cut") > 0)
    return (was_cut & (pl.col("margin").abs() < SAME_SCORE)).fill_null(False)


def first_that_fires(**rules: pl.Expr | pl.Series) -> pl.Expr:
    """The name of the first rule whose condition holds; null if none does."""
    return pl.coalesce(pl.when(condition).then(pl.lit(name)) for name, condition in rules.items())


def _with_verdicts(rows: pl.DataFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """Adds the judge's word on both passages: whether they are relevant; null where it was not asked."""
    for side in ("positive", "negative"):
        of_side = verdicts.select("query_id", pl.col("passage_id").alias(f"{side}_id"), _verdict_of(side))
        rows = rows.join(of_side, on=["query_id", f"{side}_id"], how="left", maintain_order="left")
    return rows


def _verdict_of(side: str) -> pl.Expr:
    return pl.col("is_relevant").alias(f"{side}_verdict")


def _is_judged(side: str, *, relevant: bool) -> pl.Expr:
    """Whether the judge calls the passage of that side relevant, or not relevant; false where it was not asked."""
    return pl.col(f"{side}_verdict").eq_missing(relevant)


def _with_roles(rows: pl.DataFrame, thresholds: Thresholds, corrections: Collection[Correction]) -> pl.DataFrame:
    """Adds what the teacher thinks of each row, of its negative's role in the query, and the `correction` to make."""
    rows = rows.with_columns(
        margin=pl.col("positive_score") - pl.col("negative_score"),
        positive_role=pl.col("query_id") + pl.col("positive_id"),  # a passage in its query
        negative_role=pl.col("query_id") + pl.col("negative_id"),
        positive_miner=pl.lit("given"),  # no miner chose it
        positive_rank=pl.lit(None, pl.Int32),
        positive_miner_score=pl.lit(None, pl.Float32),
        **{f"negative_{name}": name for name in MINED},
        is_false_negative=_is_false_negative(pl.col("positive_score"), pl.col("negative_score"), thresholds)
        & ~_is_judged("positive", relevant=False)
        & ~_is_judged("negative", relevant=False),
    ).with_columns(is_agreed=pl.col("margin") >= thresholds.min_teacher_margin)
    rows = rows.with_columns(is_swapped=_swapped(rows, thresholds) & ("swapped" in corrections))
    rows = rows.with_columns(
        negative_is_positive=~pl.col("is_swapped") & pl.col("negative_role").is_in(_positives(rows).implode())
    )
    is_relevant = _is_judged("negative", relevant=True)
    correction = first_that_fires(
        swapped=pl.col("is_swapped"),
        relabelled=is_relevant & ("relabelled" in corrections),
        promoted=pl.col("negative_is_positive") & ~is_relevant & ("promoted" in corrections),
    )
    return rows.with_columns(correction=correction)


def _is_false_negative(positive_score: pl.Expr, negative_score: pl.Expr, thresholds: Thresholds) -> pl.Expr:
    """The negative is relevant as well as the positive."""
    return (
        (positive_score >= thresholds.irrelevant_below)
        & (negative_score >= thresholds.relevant_from)
        & (positive_score - negative_score < thresholds.false_negative_margin)
    )


def _swapped(rows: pl.DataFrame, thresholds: Thresholds) -> pl.Series:
    """Which rows stand the wrong way round, as far as no other row of the query says otherwise.

    The negative has to be relevant, or a positive that another row confirms. A positive that another row confirms
    isn't demoted, and a negative that only confirms other rows isn't raised. Of two swaps of which one raises what
    the other demotes (a < b < c), only the one to the best passage is made.
    """
    confirmed = _confirmed_positives(rows)
    negatives = rows.filter(pl.col("is_agreed") & ~pl.col("is_false_negative"))["negative_role"]
    negatives = negatives.filter(~negatives.is_in(confirmed.implode()))
    preference = -pl.col("margin")
    negative_is_confirmed = pl.col("negative_role").is_in(confirmed.implode())
    is_candidate = (
        (preference > thresholds.swap_margin)
        & (preference >= thresholds.min_teacher_margin)
        & (pl.col("positive_score") < thresholds.irrelevant_below)
        & ((pl.col("negative_score") >= thresholds.relevant_from) | negative_is_confirmed)
        & ~_is_false_negative(pl.col("negative_score"), pl.col("positive_score"), thresholds)
        & ~_is_judged("negative", relevant=False)
        & ~pl.col("positive_role").is_in(confirmed.implode())
        & ~pl.col("negative_role").is_in(negatives.implode())
    )
    candidates = rows.select("positive_role", "negative_role", is_candidate=is_candidate)
    demoted = candidates.filter("is_candidate")["positive_role"]
    return candidates["is_candidate"] & ~candidates["negative_role"].is_in(demoted.implode())


def _confirmed_positives(rows: pl.DataFrame) -> pl.Series:
    """Positives that the teacher does not contradict, nor a judge, and what a judge calls relevant."""
    stands = (pl.col("is_agreed") | pl.col("is_false_negative")) & ~_is_judged("positive", relevant=False)
    judged = [rows.filter(_is_judged(side, relevant=True))[f"{side}_role"] for side in ("positive", "negative")]
    return pl.concat([rows.filter(stands)["positive_role"], *judged])


def _positives(rows: pl.DataFrame) -> pl.Series:
    """Every passage that is a positive of its query from now on: it may stay a negative in no row."""
    raised = rows.filter("is_swapped")["negative_role"]
    demoted = rows.filter("is_swapped")["positive_role"]
    false_negatives = rows.filter("is_false_negative")["negative_role"]
    false_negatives = false_negatives.filter(~false_negatives.is_in(demoted.implode()))
    return pl.concat([_confirmed_positives(rows), raised, false_negatives]).unique()


def _corrected(judged: pl.DataFrame, thresholds: Thresholds, taken: pl.Series) -> pl.DataFrame:
    """The rows to be corrected, each with its new form: its negative is the positive now, against a true negative.

    A new form needs a negative, and must be no scored row's; of two equal ones the swapped row's stays, or the first.
    """
    rows = (
        judged.filter(pl.col("correction").is_not_null())
        .join(_new_negatives(judged, thresholds), on="triplet_id", how="left")
        .sort("correction", "triplet_id", descending=[True, False])
    )
    form = rows.select("query_id", *_renamed("negative", "positive"), *_renamed("new_negative", "negative"))
    form = form.drop("positive_verdict", "negative_verdict", *(f"positive_{name}" for name in MINED))
    form = form.rename({f"negative_{name}": name for name in MINED})
    ids = zip(*(form[name] for name in ("query_id", "positive_id", "negative_id")), strict=True)
    new_id = pl.Series("triplet_id", [triplet_id(*three) if all(three) else None for three in ids], pl.String)
    rows = rows.with_columns(
        corrected=form.drop("query_id").with_columns(new_id).to_struct(),
        drop_reason=first_that_fires(
            no_negative_left=new_id.is_null(),
            duplicate_after_correction=new_id.is_in(taken.implode()) | ~new_id.is_first_distinct(),
            positive_too_irrelevant=_hardly_answers("negative", thresholds),
        ),
    )
    return rows.with_columns(pl.when(pl.col("drop_reason").is_null()).then(pl.col("correction", "corrected")))


def _new_negatives(judged: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """triplet_id and new_negative* of the rows to be corrected.

    A swapped row's is its demoted positive. Any other's is the query's best-scored true negative: a demoted positive,
    one that a judge refused, or a negative that is a positive nowhere; the row is missing here if there is none.
    """
    is_negative = ~pl.col("is_swapped") & ~pl.col("negative_is_positive")
    demoted = judged.filter("is_swapped").select("query_id", "triplet_id", *_renamed("positive", "new_negative"))
    negatives = judged.filter(is_negative).select("query_id", "triplet_id", *_renamed("negative", "new_negative"))
    is_refused = ~pl.col("is_swapped") & _is_judged("positive", relevant=False)
    refused = judged.filter(is_refused).select("query_id", "triplet_id", *_renamed("positive", "new_negative"))
    true_negatives = (
        pl.concat([demoted, negatives, refused])
        .sort("new_negative_score", "new_negative_id", "triplet_id", descending=[True, False, False])
        .unique(["query_id", "new_negative_id"], keep="first", maintain_order=True)
        .drop("triplet_id")
    )
    score, true_score = pl.col("score"), pl.col("new_negative_score")
    is_none = _is_judged("new_negative", relevant=False) | ~_is_false_negative(score, true_score, thresholds)
    is_true = (score - true_score >= thresholds.min_teacher_margin) & is_none
    best = (
        judged.filter(pl.col("correction").is_in(["relabelled", "promoted"]))
        .select("query_id", "triplet_id", score="negative_score")
        .join(true_negatives, on="query_id", maintain_order="right")
        .filter(is_true)
        .unique("triplet_id", keep="first", maintain_order=True)
    )
    return pl.concat([demoted, best.select(demoted.columns)]).drop("query_id")


def _renamed(side: str, other: str) -> list[pl.Expr]:
    """The columns of one side of the triplet under the names of the other."""
    return [pl.col(f"{side}{part}").alias(f"{other}{part}") for part in ENDS]


def _with_positive_in(decided: pl.DataFrame, passages: pl.Series) -> pl.Series:
    """The queries of which one positive, as it came or as it was corrected, is one of the passages; imploded."""
    positives = (pl.col("positive_id"), pl.col("corrected").struct.field("positive_id"))
    found = pl.any_horizontal(positive.is_in(passages.implode()) for positive in positives)
    return decided.filter(found)["query_id"].unique().implode()
