"""Curate scored triplets into a training table.

    scored_triplets@v  --curate_triplets(config)-->  curated_triplets@v' + dropped_triplets@v'

Every row is kept, corrected or dropped, by the first rule that fires, so the three counts add up to the input.
Rules look at the rows of one query only: the table is curated range by range, in constant memory. In order:
positive_in_training (the whole query), scoring_failed, positive_is_negative, score_not_finite,
text_in_evaluation_set, then the verdicts of `rules.judge`, then what a correction can come to: no_negative_left,
duplicate_after_correction.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

import polars as pl
from pydantic import Field, model_validator

from pipelines.curation import outcomes
from pipelines.curation.leaks import EvaluationTexts, positives
from pipelines.curation.rules import (
    KEPT,
    BiEncoderThresholds,
    Correction,
    CrossEncoderThresholds,
    Thresholds,
    correct,
    judge,
)
from pipelines.curation.scored_rows import ScoredRows, Shares
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, TableVersion, new_version
from pipelines.storage.commits import CurationResult, OutcomeCount
from pipelines.storage.fingerprint import fingerprint_of
from pipelines.teachers.config import KINDS
from schemas import CuratedTriplets, DroppedTriplets, Triplets

_ORDER = ["query_id", "triplet_id"]


class CurateConfig(Config):
    """What counts as a usable triplet. Stored with every version it produced."""

    cross_encoder: CrossEncoderThresholds = CrossEncoderThresholds()
    """Thresholds for a teacher that gives logits."""

    bi_encoder: BiEncoderThresholds = BiEncoderThresholds()
    """Thresholds for a teacher that gives cosines."""

    corrections: tuple[Correction, ...] = ("swapped", "promoted")
    """Corrections to make; a row that would need one left out here is dropped."""

    max_drop_share: float = Field(0.5, ge=0, le=1)
    """A curation that would drop a larger share of the rows is refused."""

    evaluation_sets: tuple[str, ...] = ()
    """BEIR folders whose queries and documents must not stand in the training table."""

    dev_share: float = Field(0.02, ge=0, lt=1)
    """Share of the distinct queries kept for choosing between models."""

    test_share: float = Field(0.05, ge=0, lt=1)
    """Share of the distinct queries kept for the final figures."""

    @model_validator(mode="after")
    def leaves_queries_to_train_on(self) -> Self:
        if self.dev_share + self.test_share >= 1:
            raise ValueError(f"dev_share {self.dev_share} + test_share {self.test_share} leave nothing to train on")
        return self

    def thresholds(self, teacher_kind: str) -> Thresholds:
        """The thresholds in that kind of teacher's units."""
        return self.cross_encoder if KINDS[teacher_kind].unit == "logits" else self.bi_encoder


class Curation(NamedTuple):
    kept: pl.DataFrame  # as curated_triplets, but for split, curation and scored_version
    dropped: pl.DataFrame  # the input's columns + drop_reason


class Curated(NamedTuple):
    version: TableVersion | None  # curated_triplets; None after a dry run
    counts: pl.DataFrame  # source, outcome (kept, corrected, dropped), reason, rows


def curate_triplets(
    scored: pl.DataFrame, config: CurateConfig, teacher_kind: str, evaluation_texts: EvaluationTexts | None = None
) -> Curation:
    """Split one teacher's rows of whole queries into kept (some corrected) and dropped; the two heights add up."""
    thresholds = config.thresholds(teacher_kind)
    rows = scored.sort("query_id", "triplet_id")
    rows = rows.with_columns(drop_reason=_unusable(rows, evaluation_texts))
    unusable = rows.filter(pl.col("drop_reason").is_not_null())
    judged = judge(rows.filter(pl.col("drop_reason").is_null()).drop("drop_reason"), thresholds, config.corrections)
    corrected = correct(judged, thresholds)
    unique = _without_duplicates(corrected, taken=scored["triplet_id"])
    reason = (
        pl.when(pl.col("triplet_id").is_in(corrected["original_triplet_id"].implode()))
        .then(pl.lit("duplicate_after_correction"))
        .when(pl.col("verdict") == "promoted")
        .then(pl.lit("no_negative_left"))
        .otherwise(pl.col("verdict"))
    )
    is_lost = (pl.col("verdict") != KEPT) & ~pl.col("triplet_id").is_in(unique["original_triplet_id"].implode())
    lost = judged.filter(is_lost).with_columns(drop_reason=reason)
    curation = Curation(_as_curated(judged, unique), pl.concat([unusable, lost.select(rows.columns)]).sort(_ORDER))
    if len(curation.kept) + len(curation.dropped) != len(scored):
        raise AssertionError(f"{len(scored)} rows became {len(curation.kept)} kept + {len(curation.dropped)} dropped")
    return curation


def _unusable(rows: pl.DataFrame, evaluation_texts: EvaluationTexts | None) -> pl.Expr:
    """Why a row cannot be judged; null if it can."""
    is_finite = pl.col("positive_score").is_finite() & pl.col("negative_score").is_finite()
    leaks = evaluation_texts.stand_in(rows) if evaluation_texts else pl.lit(False)
    return (
        pl.when(pl.col("scoring_error").is_not_null()).then(pl.lit("scoring_failed"))
        .when(pl.col("positive_id") == pl.col("negative_id")).then(pl.lit("positive_is_negative"))
        .when(~is_finite.fill_null(False)).then(pl.lit("score_not_finite"))
        .when(leaks).then(pl.lit("text_in_evaluation_set"))
    )  # fmt: skip


def _without_duplicates(corrected: pl.DataFrame, taken: pl.Series) -> pl.DataFrame:
    """Corrected rows whose new id is no scored row's; of two with the same one the swapped stays, or the first."""
    return (
        corrected.filter(~pl.col("triplet_id").is_in(taken.implode()))
        .sort("verdict", "original_triplet_id", descending=[True, False])
        .unique("triplet_id", keep="first", maintain_order=True)
    )


def _as_curated(judged: pl.DataFrame, corrected: pl.DataFrame) -> pl.DataFrame:
    kept = judged.filter(pl.col("verdict") == KEPT).with_columns(original_triplet_id=pl.lit(None, pl.String))
    rows = pl.concat([kept, corrected.select(kept.columns)])
    return rows.select(
        *Triplets.polars_schema(),
        *("positive_score", "negative_score", "positive_relevance", "negative_relevance"),
        (pl.col("positive_score") - pl.col("negative_score")).alias("teacher_margin"),
        "teacher",
        pl.when(pl.col("verdict") != KEPT).then(pl.col("verdict")).alias("correction"),
        "original_triplet_id",
    ).sort(_ORDER)


def run(
    scored: TableVersion,
    config: CurateConfig,
    *,
    teacher: str | None = None,
    partial: bool = False,
    dry_run: bool = False,
) -> Curated:
    """Commit dropped_triplets, then curated_triplets: no snapshot without its explanation. A dry run only counts.

    Args:
        teacher: whose scores to go by; None is the teacher of the newest completed scoring.
        partial: curate although not all of the triplets version is scored.
    Raises:
        UserError: nothing to curate, an incomplete scoring, or more dropped than `max_drop_share`; nothing is written.
    """
    source = ScoredRows.find(scored, teacher)
    source.check_complete(partial=partial)
    evaluation_texts = EvaluationTexts.read(config.evaluation_sets)
    curations = _curations(source, config, evaluation_texts)
    if dry_run:
        return Curated(None, _checked(map(_count, curations), config, refuse=False))
    inputs = [scored, source.triplets]
    result = CurationResult(
        teacher=source.teacher, teacher_kind=source.teacher_kind, evaluation_sets=tuple(evaluation_texts.data_sets)
    )
    made_with = result.model_dump(mode="json", include={"teacher", "teacher_kind", "evaluation_sets"})
    curation_id = fingerprint_of([*(one.identity() for one in inputs), config.model_dump(mode="json"), made_with])
    result = result.model_copy(update={"curation": curation_id})
    lineage = Lineage("curate", inputs, config)
    made_by = {"curation": pl.lit(curation_id), "scored_version": pl.lit(str(scored))}
    blocks = []
    with (
        new_version(scored.tables, CuratedTriplets, lineage, mode="overwrite") as curated,
        new_version(scored.tables, DroppedTriplets, lineage, mode="overwrite") as dropped,  # committed first
    ):
        for curation in curations:
            curated.write(curation.kept.with_columns(**made_by).select(CuratedTriplets.polars_schema().keys()))
            dropped.write(curation.dropped.with_columns(**made_by).select(DroppedTriplets.polars_schema().keys()))
            blocks.append(_count(curation))
        counts = _checked(blocks, config, refuse=True)
        curated.result = dropped.result = result.model_copy(
            update={"counts": tuple(OutcomeCount(**row) for row in counts.to_dicts())}
        )
    newest = scored.tables.latest("dropped_triplets")
    if newest != dropped.version:
        print(
            f"{newest} is another curation's, made at the same time: {dropped.version} explains {curated.version}",
            file=sys.stderr,
        )
    return Curated(curated.version, counts)


def _count(curation: Curation) -> pl.DataFrame:
    return outcomes.count(curation.kept, curation.dropped)


def _checked(blocks: Iterable[pl.DataFrame], config: CurateConfig, *, refuse: bool) -> pl.DataFrame:
    """The counts of all blocks; a loss beyond `max_drop_share` is refused, or only told."""
    counts = outcomes.total(blocks)
    if not len(counts):
        raise UserError("there is no scored row to curate; score some triplets first: python -m jobs score")
    complaint = outcomes.too_many_dropped(counts, config.max_drop_share)
    if complaint and refuse:
        raise UserError(f"{complaint}; nothing was written. See which source is rotten, or raise curate.max_drop_share")
    if complaint:
        print(f"{complaint} and so would be refused", file=sys.stderr)
    return counts


def _curations(source: ScoredRows, config: CurateConfig, texts: EvaluationTexts) -> Iterator[Curation]:
    """Training queries first: what they took as a positive decides which held-out queries leave."""
    shares = Shares(config.dev_share, config.test_share)
    held_out_passages = source.held_out_passages(shares).implode()
    in_training = pl.Series([], dtype=pl.String)
    for rows in source.blocks(shares, held_out=False):
        curation = _curate_block(rows, config, source.teacher_kind, texts)
        taken = positives(rows, curation.kept)["passage_id"]
        in_training = pl.concat([in_training, taken.filter(taken.is_in(held_out_passages))]).unique()
        yield curation
    for rows in source.blocks(shares, held_out=True):
        curation = _curate_block(rows, config, source.teacher_kind, texts)
        yield without_queries_in_training(rows.drop("split"), curation, in_training)


def _curate_block(rows: pl.DataFrame, config: CurateConfig, teacher_kind: str, texts: EvaluationTexts) -> Curation:
    kept, dropped = curate_triplets(rows.drop("split"), config, teacher_kind, texts)
    return Curation(kept.join(rows.select("query_id", "split").unique(), on="query_id", maintain_order="left"), dropped)


def without_queries_in_training(rows: pl.DataFrame, curation: Curation, in_training: pl.Series) -> Curation:
    """Held-out queries one of whose positives, as it came or as corrected, is a positive in training leave whole."""
    pairs = positives(rows, curation.kept)
    leaving = pairs.filter(pl.col("passage_id").is_in(in_training.implode()))["query_id"].unique()
    is_leaving = pl.col("query_id").is_in(leaving.implode())
    left = rows.filter(is_leaving).with_columns(drop_reason=pl.lit("positive_in_training"))
    dropped = pl.concat([curation.dropped.filter(~is_leaving), left.select(curation.dropped.columns)])
    return Curation(curation.kept.filter(~is_leaving), dropped.sort(_ORDER))
