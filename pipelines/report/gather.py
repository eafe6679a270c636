"""Everything that a page shows, in numbers: one pass over each question, each by its own module.

Subject  --gather-->  Report: small frames and tuples, no text longer than an example's
"""

from typing import NamedTuple

from pipelines.report.judgement import EXAMPLES, Outcomes, Row, examples, outcomes
from pipelines.report.lengths import LengthFigures, length_figures
from pipelines.report.lineage import Lineage, lineage
from pipelines.report.movement import Movement, movement
from pipelines.report.quality import Measured, ModelSize, model_size, quality
from pipelines.report.queries import ByQuery, by_query
from pipelines.report.scores import Agreement, ScoreFigures, agreement, score_figures
from pipelines.report.subject import Subject
from pipelines.report.training import Curves, training_curves
from pipelines.stage.errors import UserError

MULTIPLES = 12
"""Sources that have a picture of their own, the worst ones."""

MOST_CURVES = 3
"""Models whose training is drawn, the first ones."""

__all__ = ["EXAMPLES", "MULTIPLES", "Report", "gather"]


class Report(NamedTuple):
    """What the sections are made of; None, or a sentence that says why, where there is nothing."""

    subject: Subject
    outcomes: Outcomes
    quarantined: int  # input rows that became no triplet, of the whole root
    examples: dict[str, list[Row]]  # by reason
    scores: ScoreFigures | None
    agreement: Agreement | None
    lengths: LengthFigures | None
    movement: Movement | None
    curves: dict[str, Curves | str]  # by model_id
    measured: list[Measured]
    by_query: ByQuery | str
    sizes: dict[str, ModelSize]  # by model_id
    lineage: Lineage

    @property
    def headline(self) -> Measured | None:
        """The first model on its first data set: a folder of others' if there is one, else its own test split."""
        first = [one for one in self.measured if one.model_id == self.measured[0].model_id]
        outside = [one for one in first if not one.is_curated]
        return next(iter(outside or first), None)

    @property
    def with_texts(self) -> Measured | None:
        """The first model on its own test split, whose texts stand in the tables; else as `headline`."""
        own = [one for one in self.measured if one.is_curated]
        return own[0] if own and own[0].model_id == self.measured[0].model_id else self.headline


def gather(subject: Subject) -> Report:
    """All figures. Reads tables lazily and in streams; the largest frames held are samples of fixed size.

    Raises:
        UserError: all rows were erased.
    """
    judged = outcomes(subject)
    if judged.counts.is_empty():
        raise UserError(f"{subject.curated} has no rows any more, nor what it dropped: there is nothing to report")
    scores = score_figures(subject, judged.sources["source"].head(MULTIPLES).to_list())
    teachers = scores.teachers.sort("rows", descending=True)["teacher"].to_list() if scores else []
    quarantined = subject.tables.latest("quarantined_rows")
    names = [row["model_id"] for row in subject.models]
    measured = quality(subject.tables, names, subject.result.teacher) if subject.evaluations else []
    report = Report(
        subject=subject,
        outcomes=judged,
        quarantined=quarantined.num_rows() if quarantined else 0,
        examples=examples(subject, judged.reasons),
        scores=scores,
        agreement=agreement(subject, teachers),
        lengths=length_figures(subject, scores.sources) if scores else None,
        movement=movement(subject),
        curves={row["model_id"]: training_curves(subject.tables, row["name"]) for row in subject.models[:MOST_CURVES]},
        measured=measured,
        by_query="no evaluation of a model is recorded",
        sizes={row["model_id"]: model_size(subject.tables, row) for row in subject.models},
        lineage=lineage(subject),
    )
    asked = report.with_texts
    return report._replace(by_query=by_query(subject, asked)) if asked else report
