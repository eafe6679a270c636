"""What a judge said of passages, for the curation that asks for it: one version of passage_judgements, one judge.

    Judgements.find(tables, judge, version) -> .of(rows) -> query_id, passage_id, is_relevant

Without a judge there are none. A version is always named by what is made of it, so the same curation finds the same
verdicts again.
"""

from typing import NamedTuple

import polars as pl

from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import JudgingResult
from schemas import PassageJudgements

TABLE = PassageJudgements.table_name()
NO_VERDICTS = pl.DataFrame(schema={"query_id": pl.String, "passage_id": pl.String, "is_relevant": pl.Boolean})


class Judgements(NamedTuple):
    version: TableVersion
    judge: str  # name@12hex

    @classmethod
    def find(cls, tables: Tables, judge: str | None, version: TableVersion | None) -> "Judgements | None":
        """The judge's rows in the version given, or in the newest that says they are complete; None without either.

        Args:
            judge: None is the one whose rows made the version.
        Raises:
            UserError: there is no such version, or the judge has no row in it.
        """
        if version is None:
            return None if judge is None else cls(_newest_of(tables, judge), judge)
        if version.name != TABLE:
            raise UserError(f"{version} holds no judgements; expected a version of {TABLE}")
        results = list(version.usable().results(JudgingResult))
        if not results:
            raise UserError(f"{version} was not written by relabel; expected one that was: `python -m jobs relabel`")
        judge = judge or results[0][1].judge
        judges = sorted({result.judge for _, result in results})
        if judge not in judges:
            raise UserError(
                f"{version} has no judgements by {judge}, whom curate.judge names; it has some by {', '.join(judges)}: "
                "expected one of them there, or no curate.judge, which takes who made the version"
            )
        if next(result for _, result in results if result.judge == judge).complete is None:
            tell(f"{version}: {judge} was not done; the pairs that it had not judged are left to the teacher")
        return cls(version, judge)

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The verdicts on the queries of some rows: query_id, passage_id, is_relevant."""
        first, last = rows["query_id"].min(), rows["query_id"].max()
        near = pl.col("query_id").is_between(pl.lit(first), pl.lit(last)) & pl.col("verdict").is_not_null()
        found = self.version.scan().filter(near & (pl.col("judge") == pl.lit(self.judge)))
        is_relevant = (pl.col("verdict") == "relevant").alias("is_relevant")
        return found.select("query_id", "passage_id", is_relevant).collect()


def _newest_of(tables: Tables, judge: str) -> TableVersion:
    """Raises UserError where none is complete."""

    def is_complete(version: TableVersion) -> bool:
        result = version.commit.reports(JudgingResult)
        return result is not None and result.judge == judge and result.complete is not None

    version = tables.newest(TABLE, is_complete) if tables.latest(TABLE) else None
    if version is None:
        raise UserError(
            f"curate.judge is {judge}, by whom no version of {TABLE} has complete judgements; {_there(tables, judge)}"
        )
    tell(f"judgements: {version} (the newest complete ones by {judge})")
    return version


def _there(tables: Tables, judge: str) -> str:
    """Whose judgements there are instead, and what to do."""
    newest = tables.latest(TABLE)
    results = [result for _, result in newest.results(JudgingResult)] if newest else []
    if not results:
        return "found none by anybody; make them first: `python -m jobs relabel`; or leave curate.judge out"
    if judge in {result.judge for result in results}:
        return (
            f"found some that it did not complete; expected the same `python -m jobs relabel` again, or what is there "
            f"to be taken: --judgements {newest}"
        )
    done = {result.judge for result in results if result.complete}
    others = [one if one in done else f"{one} (not completed)" for one in sorted({result.judge for result in results})]
    return f"found some by {', '.join(others)}; expected who completed them, or a version: --judgements {newest}"
