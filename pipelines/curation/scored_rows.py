"""One teacher's scores of one triplets version, out of a scored_triplets table that may hold more of both.

What is complete stands in the commits of the scoring runs: `ScoredRows.find` reads them, from the given version back.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from pipelines.stage import hints
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import QueryRange, TableVersion
from pipelines.storage.commits import Completion, Input, ScoringResult
from pipelines.texts.splits import in_share, split_of

IDS_AT_ONCE = 1_000_000


class HeldOut(NamedTuple):
    """What is kept from training, as far as later passes over the table need it."""

    queries: pl.DataFrame  # query_id, split (dev or test)
    passages: pl.Series  # distinct ids of their positives and negatives


class ScoredRows(NamedTuple):
    scored: TableVersion
    triplets: TableVersion
    teacher: str  # name@12hex
    teacher_kind: str  # "cross_encoder" or "bi_encoder"
    share: float | None  # of the queries that were to be scored; None while the scoring is not complete
    share_rows: int = 0  # which these queries have

    @classmethod
    def find(cls, scored: TableVersion, teacher: str | None = None) -> "ScoredRows":
        """The largest completed scoring of the newest triplets version that can be read; else one under way.

        Args:
            teacher: whose; None is the only one whose scoring is complete, or under way where none is.
        Raises:
            UserError: there is no such scoring, or a choice of several teachers, or the triplets cannot be read.
        """
        runs = [(version.commit, result) for version, result in scored.usable().results(ScoringResult)]
        if not runs:
            raise UserError(f"{scored} was not written by a scoring run; expected one: `python -m jobs score`")
        if teacher is None:
            teacher = _only_teacher(scored, [result for _, result in runs])
        of_teacher = [(run, result) for run, result in runs if result.teacher == teacher]
        if not of_teacher:
            teachers = ", ".join(sorted({result.teacher for _, result in runs}))
            raise UserError(f"{scored} has no scores by {teacher!r}; it has scores by {teachers}")
        completions: dict[tuple[Input, ...], list[Completion]] = {}
        for run, result in of_teacher:
            if result.complete:
                completions.setdefault(run.inputs, []).append(result.complete)
        if not completions:
            run = of_teacher[0][0]
            triplets = scored.tables.recorded(run.inputs[0]).usable()
            return cls(scored, triplets, teacher, run.config["teacher_kind"], None)
        return cls._completed(scored, [max(same, key=lambda one: one.share) for same in completions.values()])

    @classmethod
    def _completed(cls, scored: TableVersion, completions: Sequence[Completion]) -> "ScoredRows":
        """The first whose triplets can be read; of each triplets version, newest first, the largest completion."""
        refused: dict[str, str | None] = {}
        for one in completions:
            triplets = scored.tables.recorded(Input(version=one.triplets, table_id=one.triplets_table_id))
            if triplets.unusable is None:
                for other, reason in refused.items():
                    tell(f"{scored}: passing over the scores of {other}, which {reason}")
                return cls(scored, triplets, one.teacher, one.teacher_kind, one.share, one.rows)
            refused[str(triplets)] = triplets.unusable
        newest = scored.tables.newest("triplets")
        told = "; ".join(f"{other}, which {reason}" for other, reason in refused.items())
        raise UserError(
            f"{scored} holds the complete scores of {told}; to complete them for what can be read: "
            f"`python -m jobs score --from {newest}`"
        )

    def check_complete(self, *, partial: bool) -> bool:
        """Whether all triplets are scored; refuses less unless `partial` or a share is complete. Says what is not."""
        num_scored, num_rows = self._num_rows(), self.triplets.num_rows()
        if self.share is None or (self.share < 1 and num_scored > self.share_rows):  # beyond it, on the way
            unscored = f"{num_rows - num_scored:,} of {num_rows:,} rows of {self.triplets}"
            if not partial:
                raise UserError(
                    f"{self.scored}: {unscored} are not scored by {self.teacher}; to complete it: "
                    f"`python -m jobs score --from {self.triplets}`; "
                    "to curate what is there: --partial"
                )
            tell(f"{self.scored}: {unscored} are not scored by {self.teacher}: curating the others")
        elif self.share < 1:
            tell(f"{self.scored}: curating the {self.share:.4g} of the queries of {self.triplets} that were scored")
        self._tell_newer()
        return num_scored == num_rows

    def drawn(self) -> pl.Expr | None:
        """Which scored rows are those of a random part of the version's queries, whose ids are random.

        None where nothing tells: rows of an older version were scored, too.
        """
        results = self.scored.results(ScoringResult)
        of_teacher = [version.commit.inputs for version, result in results if result.teacher == self.teacher]
        if {one.version for inputs in of_teacher for one in inputs[:1]} == {str(self.triplets)}:
            return pl.lit(True)
        return in_share(self.share) if self.share is not None and self.share < 1 else None

    def _tell_newer(self) -> None:
        newest = self.triplets.tables.newest("triplets")
        newer = newest.num_rows() - self.triplets.num_rows() if newest else 0
        if newer > 0:
            told = f"{newest} has {newer:,} newer rows that are not scored; to score them: `python -m jobs score`"
            tell(hints.completed(told))

    def held_out(self, dev_share: float, test_share: float) -> HeldOut:
        """The queries of dev and test. One scan; only their ids and those of their passages are held in memory."""
        rows = self._scan().with_columns(split=split_of(pl.col("query"), dev_share, test_share))
        held_out = rows.filter(pl.col("split") != "train").select("query_id", "split", "positive_id", "negative_id")
        ids = held_out.collect(engine="streaming")
        passages = pl.concat([ids["positive_id"], ids["negative_id"]]).unique()
        return HeldOut(ids.select("query_id", "split").unique(), passages)

    def blocks(
        self, ranges: Sequence[QueryRange], held_out: pl.DataFrame, *, is_held_out: bool
    ) -> Iterator[pl.DataFrame]:
        """Rows of whole queries of each range, with their split: those of training, or those that are held out."""
        for query_range in ranges:
            in_range = query_range.contains("query_id")
            wanted = self.triplets.scan().filter(in_range).select("triplet_id").collect()
            rows = self._scan().filter(in_range).collect().join(wanted, on="triplet_id", how="semi")
            if is_held_out:
                rows = rows.join(held_out, on="query_id")
            else:
                rows = rows.join(held_out, on="query_id", how="anti").with_columns(split=pl.lit("train"))
            if len(rows):
                yield rows

    def _scan(self) -> pl.LazyFrame:
        return self.scored.scan().filter(pl.col("teacher") == pl.lit(self.teacher))

    def _num_rows(self) -> int:
        """Scored rows of the triplets version, counted range by range, so that few ids are held at once."""
        return sum(map(self._num_rows_in, self.scored.query_ranges(IDS_AT_ONCE)))

    def _num_rows_in(self, query_range: QueryRange) -> int:
        in_range = query_range.contains("query_id")
        ids = self.triplets.scan().filter(in_range).select("triplet_id")
        rows = self._scan().filter(in_range).select("triplet_id").join(ids, on="triplet_id", how="semi")
        return int(rows.select(pl.len()).collect(engine="streaming").item())


def _only_teacher(scored: TableVersion, results: Sequence[ScoringResult]) -> str:
    """The teacher whose scoring is complete, or is under way where none is. Raises UserError when that is a choice."""
    teachers = sorted({result.teacher for result in results if result.complete} or {one.teacher for one in results})
    if len(teachers) > 1:
        raise UserError(
            f"{scored} has scores by {len(teachers)} teachers; choose one with --teacher "
            f"{' or --teacher '.join(teachers)}, as in `python -m jobs curate --teacher {teachers[0]}`, or give the "
            "--recipe of one"
        )
    return teachers[0]
