"""What a report is about: one curation's versions, the scores it went by, its rules' thresholds, and its models.

    Subject.find(tables, curated, before, model names)  -->  every version that the sections read, or why not

Nothing is read here but commits and the small models table. What cannot be read any more is named, not refused: the
page says so in its place. Only the curated version itself has to be there.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.checkpoints.models import all_models, rows_of_model
from pipelines.curation.held_out import input_of
from pipelines.curation.outcomes import curation_of, dropped_by, with_dropped
from pipelines.curation.rules import BiEncoderThresholds, CrossEncoderThresholds, Thresholds
from pipelines.stage.errors import UserError
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import CurationResult, TrainingResult
from pipelines.storage.damage import undamaged
from pipelines.teachers.config import KINDS

MOST_MODELS = 6

Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """Versions that can be read, each None where it is not there any more."""

    tables: Tables
    curated: TableVersion
    result: CurationResult
    note: str  # that the curation was given
    thresholds: Thresholds
    asks_teacher: bool  # the rules went by the teacher's scores
    swaps: bool  # and a row may be swapped
    unit: str  # of the teacher's scores: logits or cosines
    dropped: TableVersion | None
    scored: TableVersion | None
    before: TableVersion | None  # another curation, that this one is compared with
    models: tuple[Row, ...]  # rows of the models table, the one that is reported first
    evaluations: TableVersion | None
    missing: tuple[str, ...]  # a sentence for each version that is not there

    @classmethod
    def find(
        cls, tables: Tables, curated: TableVersion, before: TableVersion | None = None, models: Sequence[str] = ()
    ) -> "Subject":
        """Everything behind a curated version.

        Args:
            models: NAME or NAME@12hex, in the order of the page; none is all that were trained on this version (of
                those the MOST_MODELS newest), the best on dev first where all have been measured there; where none
                was, the newest of all.
        Raises:
            UserError: no curation made the version, the two cannot be compared, or there is no such model.
        """
        result, missing = curation_of(curated.usable()), list[str]()
        for version in (before, curated) if before else ():
            with_dropped(version)
        dropped = dropped_by(curated)
        if dropped is None or dropped.unusable:
            why = f"{dropped} {dropped.unusable}" if dropped else "dropped_triplets has no version of this curation"
            missing.append(f"What was dropped can only be counted, not shown: {why}.")
            dropped = None
        commit = curated.written().commit
        config = commit.config
        unit = KINDS[result.teacher_kind].unit if result.teacher_kind in KINDS else "logits"
        return cls(
            tables=tables,
            curated=curated,
            result=result,
            note=commit.note,
            thresholds=_thresholds(config, unit),
            asks_teacher=config.get("ask_teacher", True),
            swaps="swapped" in config.get("corrections", ["swapped"]),
            unit=unit,
            dropped=dropped,
            scored=_found("What the teacher said", missing, lambda: input_of(curated, "scored_triplets").usable()),
            before=before,
            models=tuple(_models(tables, curated, models, missing)),
            evaluations=_found("What models are worth", missing, lambda: undamaged(tables.newest("evaluations"))),
            missing=tuple(missing),
        )

    def command(self, words: str) -> str:
        """A command of ours as a shell takes it, on these tables."""
        return f"python -m jobs {words} --tables {shlex.quote(self.tables.uri)}"


def _thresholds(config: Row, unit: str) -> Thresholds:
    """The rules' thresholds as the curation's commit has them."""
    if unit == "logits":
        return CrossEncoderThresholds.model_validate(config.get("cross_encoder", {}))
    return BiEncoderThresholds.model_validate(config.get("bi_encoder", {}))


def _found(holds: str, missing: list[str], find: Callable[[], TableVersion | None]) -> TableVersion | None:
    """What is found; where it is gone, that is noted."""
    try:
        return find()
    except UserError as error:
        missing.append(f"{holds} cannot be read any more: {error}.")
        return None


def _models(tables: Tables, curated: TableVersion, names: Sequence[str], missing: list[str]) -> list[Row]:
    """Rows of the models table: those named, or those of this curated version."""
    if names:
        named = [rows_of_model(tables, name).row(-1, named=True) for name in names]
        return list({row["model_id"]: row for row in named}.values())  # NAME and NAME@12hex may be one
    newest = _found("Which models were trained", missing, lambda: undamaged(tables.newest("models")))
    if newest is None:
        return []
    order = [result.model for _, result in newest.results(TrainingResult)]
    place = pl.col("model_id").replace_strict(
        {name: at for at, name in reversed([*enumerate(order)])}, default=len(order)
    )
    known = all_models(tables).sort(place, maintain_order=True).unique("model_id", keep="first", maintain_order=True)
    names_of_it = {str(curated), str(curated.origin())}
    of_version = known.filter(pl.col("curated_version").is_in(names_of_it)).head(MOST_MODELS)
    if of_version["dev_set"].n_unique() == 1 and of_version["dev_set"].null_count() == 0:
        of_version = of_version.sort("dev_ndcg_at_10", descending=True, maintain_order=True)
    return of_version.to_dicts() or known.head(1).to_dicts()
