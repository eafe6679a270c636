"""Curate scored triplets into a training table.

    scored_triplets@v  --curate_triplets(config)-->  curated_triplets@v' + dropped_triplets@v'
    (+ passage_judgements@w, of a judge)

Every row is kept, corrected or dropped, so the three counts add up to the input; `rules.decide` has the reasons in
their order. Rules look at the rows of one query only: the table is curated range by range, in constant memory.
The ranges are gone through twice. Training queries first: what they take as a positive, as it came or as corrected,
no held-out query may ask for. So that only such ids are kept in memory, a scan before both says which passages
held-out queries have at all.
"""

import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, NamedTuple, Self

import polars as pl
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from pipelines.curation import outcomes
from pipelines.curation.evaluation_texts import EvaluationTexts
from pipelines.curation.judgements import NO_VERDICTS, Judgements
from pipelines.curation.rules import BiEncoderThresholds, Correction, CrossEncoderThresholds, Thresholds, decide
from pipelines.curation.scored_rows import ScoredRows
from pipelines.curation.whole import Whole
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.stage.render import curation_lines
from pipelines.storage import Lineage, TableVersion, new_version
from pipelines.storage.commits import CurationResult, OutcomeCount
from pipelines.storage.fingerprint import fingerprint_of
from pipelines.storage.writing import Writer
from pipelines.teachers.config import KINDS
from schemas import CuratedTriplets, DroppedTriplets

ROWS_PER_BLOCK = 200_000
_ORDER = ["query_id", "triplet_id"]
NO_PASSAGES = pl.Series([], dtype=pl.String)
NO_TEXTS = EvaluationTexts([], NO_PASSAGES)


class CurateConfig(Config):
    """What counts as a usable triplet. Stored with every version it produced."""

    cross_encoder: CrossEncoderThresholds = CrossEncoderThresholds()
    """Thresholds for a teacher that gives logits."""

    bi_encoder: BiEncoderThresholds = BiEncoderThresholds()
    """Thresholds for a teacher that gives cosines."""

    corrections: tuple[Correction, ...] = ("swapped", "promoted", "relabelled")
    """Corrections to make; a row that would need one left out here is dropped. `relabelled` needs a judge."""

    judge: str | None = None
    """Whose verdicts of passage_judgements to take, name@12hex; null takes none, unless a version is named."""

    ask_teacher: bool = True
    """Whether the teacher may drop or correct a row. False keeps each that can be judged as it came, also where the
    teacher contradicts it: what a study compares curation with."""

    max_drop_share: float = Field(0.5, ge=0, le=1)
    """A curation that would drop a larger share of the rows is refused."""

    evaluation_sets: tuple[str, ...] = ()
    """BEIR folders whose queries and documents must not stand in the training table."""

    evaluation_near_duplicates: float | None = Field(0.9, gt=0, le=1)
    """Nor what shares so many of its runs of three words with one of them (pipelines/texts/near_duplicates.py). null:
    only what is the same but for case, punctuation and spacing."""

    dev_share: float = Field(0.02, ge=0, lt=1)
    """Share of the distinct queries kept for choosing between models."""

    test_share: float = Field(0.05, ge=0, lt=1)
    """Share of the distinct queries kept for the final figures."""

    @field_validator("judge")
    @classmethod
    def is_a_judge(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r".+@[0-9a-f]{12}", value):
            raise ValueError(
                "expected NAME@ and 12 hex digits, as the column judge of passage_judgements has it, or their version "
                "instead: --judgements passage_judgements@V"
            )
        return value

    @model_validator(mode="after")
    def leaves_queries_to_train_on(self) -> Self:
        if self.dev_share + self.test_share >= 1:
            raise ValueError(f"dev_share {self.dev_share} + test_share {self.test_share} leave nothing to train on")
        return self

    @model_validator(mode="after")
    def hears_its_judge(self) -> Self:
        if self.judge is not None and not self.ask_teacher:
            raise ValueError("a judge is not heard where ask_teacher is false, expected one of them")
        return self

    @model_serializer(mode="wrap")
    def without_what_needs_a_judge(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A curation without a judge is what it was before there were any: it keeps its fingerprint."""
        values: dict[str, Any] = handler(self)
        if self.judge is None:
            del values["judge"]
            kept = (one for one in values["corrections"] if one != "relabelled")
            values["corrections"] = type(values["corrections"])(kept)
        return values

    def thresholds(self, teacher_kind: str) -> Thresholds:
        """The thresholds in that kind of teacher's units."""
        return self.cross_encoder if KINDS[teacher_kind].unit == "logits" else self.bi_encoder


class Curation(NamedTuple):
    """Rows of whole queries, curated; each frame by query and triplet."""

    kept: pl.DataFrame  # as curated_triplets, but for curation and scored_version; split if the input has it
    dropped: pl.DataFrame  # the input's columns + drop_reason

    def __repr__(self) -> str:
        return f"<curation: {len(self.kept):,} kept or corrected, {len(self.dropped):,} dropped>"


class Curated(NamedTuple):
    version: TableVersion | None  # curated_triplets; None after a dry run
    counts: pl.DataFrame  # source, outcome (kept, corrected, dropped), reason, rows
    whole: pl.DataFrame | None = None  # where a part is scored: what all would come to, `Whole.estimates`

    def __repr__(self) -> str:
        rows = dict(self.counts.group_by("outcome").agg(pl.col("rows").sum()).iter_rows())
        told = ", ".join(f"{rows.get(outcome, 0):,} {outcome}" for outcome in outcomes.OUTCOMES)
        return f"<curation {self.version or '(a dry run)'}: {told}>"

    def _repr_html_(self) -> str:
        """As a notebook shows it: a line for each source, worst first."""
        lines = curation_lines(outcomes.by_source(self.counts), None, with_bars=False)
        return f"<div>{escape(repr(self))}</div><pre>{escape(chr(10).join(lines))}</pre>"


def curate_triplets(
    scored: pl.DataFrame,
    config: CurateConfig,
    teacher_kind: str,
    evaluation_texts: EvaluationTexts = NO_TEXTS,
    in_training: pl.Series = NO_PASSAGES,
    verdicts: pl.DataFrame = NO_VERDICTS,
) -> Curation:
    """Split one teacher's rows of whole queries into kept (some corrected) and dropped; the two heights add up.

    Args:
        in_training: ids of passages that these queries, if held out, may not have as a positive.
        verdicts: of a judge: query_id, passage_id, is_relevant.
    """
    thresholds = config.thresholds(teacher_kind)
    texts, asks = evaluation_texts, config.ask_teacher
    decided = decide(scored, thresholds, config.corrections, texts, in_training, ask_teacher=asks, verdicts=verdicts)
    assert len(decided) == len(scored), f"{len(scored)} rows became {len(decided)}"
    is_kept = pl.col("drop_reason").is_null()
    dropped = decided.filter(~is_kept).select(*scored.columns, "drop_reason").sort(_ORDER)
    return Curation(_as_curated(decided.filter(is_kept)), dropped)


def _as_curated(kept: pl.DataFrame) -> pl.DataFrame:
    """The rows that stay, corrected ones in their new form."""
    is_corrected = pl.col("correction").is_not_null()
    corrected = kept.filter(is_corrected).with_columns(
        pl.col("corrected").struct.unnest(), original_triplet_id="triplet_id"
    )
    rows = pl.concat([kept.filter(~is_corrected), corrected], how="diagonal")
    rows = rows.with_columns(teacher_margin=pl.col("positive_score") - pl.col("negative_score"))
    return rows.select(name for name in CuratedTriplets.polars_schema() if name in rows.columns).sort(_ORDER)


def run(
    scored: TableVersion,
    config: CurateConfig,
    *,
    teacher: str | None = None,
    judgements: TableVersion | None = None,
    partial: bool = False,
    dry_run: bool = False,
) -> Curated:
    """Commit dropped_triplets, then curated_triplets: no snapshot without its explanation. A dry run only counts.

    Args:
        teacher: whose scores to go by; None is the only one whose scoring is complete.
        judgements: passage_judgements to take verdicts from; None is the newest complete one of `config.judge`, if any.
        partial: curate although not all of the triplets version is scored.
    Raises:
        UserError: nothing to curate, an incomplete scoring, or more dropped than `max_drop_share`; nothing is written.
    """
    scored.tables.check_writable("curated_triplets", "dropped_triplets")
    read, config = _read(scored, config, teacher, judgements)
    is_whole = read.source.check_complete(partial=partial)
    curations, whole = _curations(read, config), None if is_whole else Whole(read.source)
    if whole:
        curations = _told_to(whole, curations)
    if dry_run:
        counts = _checked((outcomes.count(*one) for one in curations), config, refuse=False)
        return Curated(None, counts, _estimates(whole, config))
    lineage, curation_id = Lineage("curate", read.versions, config), read.curation_id(config)
    with (
        new_version(scored.tables, CuratedTriplets, lineage, mode="overwrite") as curated,
        new_version(scored.tables, DroppedTriplets, lineage, mode="overwrite") as dropped,  # committed first
    ):
        made_by = {"curation": pl.lit(curation_id), "scored_version": pl.lit(str(scored))}
        counts = _checked(_write(curations, made_by, curated, dropped), config, refuse=True)
        told = {**read.made_with(), "curation": curation_id, "triplets": read.source.triplets.num_rows()}
        outcome_counts = tuple(OutcomeCount(**row) for row in counts.to_dicts())
        curated.result = dropped.result = CurationResult(**told, counts=outcome_counts)
    newest = scored.tables.latest("dropped_triplets")
    if newest != dropped.version:
        tell(f"{newest} is another curation's, made at the same time: {dropped.version} explains {curated.version}")
    return Curated(curated.version, counts, _estimates(whole, config))


def find(scored: TableVersion, config: CurateConfig, *, teacher: str | None = None) -> TableVersion | None:
    """The newest usable curated_triplets that this very curation has made before; None if it has made none.

    Raises:
        UserError: nothing to curate, or what it made cannot be read any more.
    """
    read, config = _read(scored, config, teacher, None)
    curation_id = read.curation_id(config)

    def is_its(version: TableVersion) -> bool:
        made = version.commit.reports(CurationResult)
        return made is not None and made.curation == curation_id

    return scored.tables.newest("curated_triplets", is_its)


def _told_to(whole: Whole, curations: Iterable[Curation]) -> Iterator[Curation]:
    for curation in curations:
        whole.add(*curation)
        yield curation


def _estimates(whole: Whole | None, config: CurateConfig) -> pl.DataFrame | None:
    estimates = whole.estimates() if whole else None
    if estimates is not None and config.dev_share + config.test_share:
        tell(
            "of the rows of dev and test queries all triplets would lose more: a positive that training queries have, "
            "too (positive_in_training), is only found where both are scored"
        )
    return estimates


class _Read(NamedTuple):
    """What a curation reads."""

    source: ScoredRows
    texts: EvaluationTexts
    judgements: Judgements | None

    @property
    def versions(self) -> list[TableVersion]:
        judged = [self.judgements.version] if self.judgements else []
        return [self.source.scored, self.source.triplets, *judged]

    def made_with(self) -> dict[str, Any]:
        teacher = {"teacher": self.source.teacher, "teacher_kind": self.source.teacher_kind}
        return {**teacher, "evaluation_sets": self.texts.data_sets}

    def curation_id(self, config: CurateConfig) -> str:
        """12 hex digits over inputs, config and teacher."""
        identities = [one.identity() for one in self.versions]
        return fingerprint_of([*identities, config.model_dump(mode="json"), self.made_with()])

    def verdicts(self, rows: pl.DataFrame) -> pl.DataFrame:
        return self.judgements.of(rows) if self.judgements else NO_VERDICTS


def _read(
    scored: TableVersion, config: CurateConfig, teacher: str | None, judgements: TableVersion | None
) -> tuple[_Read, CurateConfig]:
    """What is read, and the config with the name of the judge whose version is named."""
    source, judged = ScoredRows.find(scored, teacher), Judgements.find(scored.tables, config.judge, judgements)
    if judged and not config.ask_teacher:
        raise UserError(f"{judged.version} is not heard where curate.ask_teacher is false; expected one of them")
    if judged:
        config = config.model_copy(update={"judge": judged.judge})
    texts = EvaluationTexts.read(config.evaluation_sets, config.evaluation_near_duplicates)
    return _Read(source, texts, judged), config


def _curations(read: _Read, config: CurateConfig) -> Iterator[Curation]:
    """Training queries first: what they took as a positive decides which held-out queries leave."""
    source, texts = read.source, read.texts
    ranges = source.scored.query_ranges(ROWS_PER_BLOCK)
    held_out = source.held_out(config.dev_share, config.test_share)
    in_training = NO_PASSAGES
    for rows in source.blocks(ranges, held_out.queries, is_held_out=False):
        curation = curate_triplets(rows, config, source.teacher_kind, texts, verdicts=read.verdicts(rows))
        positives = pl.concat([rows["positive_id"], curation.kept["positive_id"]]).unique()  # as came, as corrected
        in_training = pl.concat([in_training, positives.filter(positives.is_in(held_out.passages.implode()))]).unique()
        yield curation
    for rows in source.blocks(ranges, held_out.queries, is_held_out=True):
        yield curate_triplets(rows, config, source.teacher_kind, texts, in_training, read.verdicts(rows))


def _write(
    curations: Iterable[Curation], made_by: dict[str, pl.Expr], curated: Writer, dropped: Writer
) -> Iterator[pl.DataFrame]:
    """Writes block after block, and yields the counts of each."""
    for curation in curations:
        curated.write(curation.kept.with_columns(**made_by).select(CuratedTriplets.polars_schema().keys()))
        dropped.write(curation.dropped.with_columns(**made_by).select(DroppedTriplets.polars_schema().keys()))
        yield outcomes.count(*curation)


def _checked(blocks: Iterable[pl.DataFrame], config: CurateConfig, *, refuse: bool) -> pl.DataFrame:
    """The counts of all blocks; a loss beyond `max_drop_share` is refused, or else only remarked on."""
    counts = outcomes.total(blocks)
    if not len(counts):
        raise UserError("there is no scored row to curate; score some triplets first: `python -m jobs score`")
    complaint = outcomes.too_many_dropped(counts, config.max_drop_share)
    if complaint and refuse:
        raise UserError(f"{complaint}; nothing was written. See which source is rotten, or raise curate.max_drop_share")
    if complaint:
        tell(f"{complaint} and so would be refused")
    return counts
