"""One teacher's scores of one triplets version, out of a scored_triplets table that may hold more of both.

What is complete stands in the commits of the scoring runs: `ScoredRows.find` reads them, from the given version back.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple, cast

import polars as pl

from pipelines.stage.errors import UserError
from pipelines.storage import TableVersion
from pipelines.storage.commits import Commit, ScoringResult
from pipelines.texts.splits import split_of

ROWS_PER_BLOCK = 200_000
HELD_OUT = ("dev", "test")


class Shares(NamedTuple):
    """Shares of the distinct queries that are held out."""

    dev: float
    test: float


class ScoredRows(NamedTuple):
    scored: TableVersion
    triplets: TableVersion
    teacher: str  # name@12hex
    teacher_kind: str  # "cross_encoder" or "bi_encoder"
    share: float | None  # of the queries that were to be scored; None while the scoring is not complete

    @classmethod
    def find(cls, scored: TableVersion, teacher: str | None = None) -> "ScoredRows":
        """The newest completed scoring up to this version, by the given teacher or any; else one under way."""
        runs = [version.commit for version, _ in scored.results(ScoringResult)]
        if not runs:
            raise UserError(f"{scored} was not written by a scoring run; expected one: python -m jobs score")
        teachers = sorted({_scoring(run).teacher for run in runs})
        of_teacher = [run for run in runs if teacher in (None, _scoring(run).teacher)]
        if not of_teacher:
            raise UserError(f"{scored} has no scores by {teacher!r}; it has scores by {', '.join(teachers)}")
        found = cls._of(scored, _newest_complete(of_teacher) or of_teacher[0])
        if teacher is None and len(teachers) > 1:
            others = ", ".join(name for name in teachers if name != found.teacher)
            _tell(f"{scored}: taking the scores by {found.teacher}; --teacher chooses another: {others}")
        return found

    @classmethod
    def _of(cls, scored: TableVersion, run: Commit) -> "ScoredRows":
        result = _scoring(run)
        complete = result.complete
        triplets = scored.tables.parse(complete.triplets if complete else run.inputs[0].version)
        kind = complete.teacher_kind if complete else run.config["teacher_kind"]
        return cls(scored, triplets, result.teacher, kind, complete.share if complete else None)

    def check_complete(self, *, partial: bool) -> None:
        """Refuse scores of a part of the triplets unless `partial`; tell what else the scores do not cover."""
        if self.share is None:
            missing = self.triplets.num_rows() - self._num_rows()
            told = f"{missing:,} of {self.triplets.num_rows():,} rows of {self.triplets}"
            if not partial:
                raise UserError(
                    f"{self.scored}: {told} are not scored by {self.teacher}; to complete it: "
                    f"python -m jobs score --from {self.triplets} (with the --recipe that scored the others); "
                    "to curate what is there: --partial"
                )
            _tell(f"{self.scored}: {told} are not scored by {self.teacher}: curating the others")
        elif self.share < 1:
            _tell(f"{self.scored}: curating the {self.share:.4g} of the queries of {self.triplets} that were scored")
        newest = self.triplets.tables.latest("triplets")
        newer = newest.num_rows() - self.triplets.num_rows() if newest else 0
        if newer > 0:
            _tell(
                f"{newest} has {newer:,} newer rows that are not scored; to score them: python -m jobs score (with the "
                "--recipe that scored the others)"
            )

    def blocks(self, shares: Shares, *, held_out: bool) -> Iterator[pl.DataFrame]:
        """Rows of whole queries, with their split, in ascending ranges: those of training or those held out."""
        for query_range in self.scored.query_ranges(ROWS_PER_BLOCK):
            in_range = query_range.contains("query_id")
            wanted = self.triplets.scan().filter(in_range).select("triplet_id").collect()
            of_teacher = self._scan().filter(in_range).collect()
            rows = of_teacher.join(wanted, on="triplet_id", how="semi")
            splits = rows.select("query_id", "query").unique().with_columns(split=_split(shares)).drop("query")
            rows = rows.join(splits, on="query_id").filter(pl.col("split").is_in(HELD_OUT) == held_out)
            if len(rows):
                yield rows

    def held_out_passages(self, shares: Shares) -> pl.Series:
        """Ids of all passages, positive or negative, of the queries that are held out."""
        held_out = self._scan().filter(_split(shares).is_in(HELD_OUT)).select("positive_id", "negative_id")
        ids = held_out.collect(engine="streaming")
        return pl.concat([ids["positive_id"], ids["negative_id"]]).unique()

    def _scan(self) -> pl.LazyFrame:
        return self.scored.scan().filter(pl.col("teacher") == pl.lit(self.teacher))

    def _num_rows(self) -> int:
        ids = self.triplets.scan().select("triplet_id")
        rows = self._scan().select("triplet_id").join(ids, on="triplet_id", how="semi")
        return int(rows.select(pl.len()).collect(engine="streaming").item())


def _newest_complete(runs: list[Commit]) -> Commit | None:
    """Of the newest completed triplets version the completion with the largest share; None if nothing is complete."""
    completed = [(run, complete.share) for run in runs if (complete := _scoring(run).complete)]
    of_newest = [(run, share) for run, share in completed if run.inputs == completed[0][0].inputs]
    return max(of_newest, key=lambda one: one[1])[0] if of_newest else None


def _scoring(run: Commit) -> ScoringResult:
    return cast(ScoringResult, run.result)


def _split(shares: Shares) -> pl.Expr:
    return split_of(pl.col("query"), shares.dev, shares.test)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
