"""Which rows a training reads: the training split of a curated version under `where`, and what else was scored.

curated@v  --check_rows-->  refused before Ray starts     --training_rows-->  the token cache (tokenise.py)
"""

import json
from typing import Any

import polars as pl
from polars.exceptions import ColumnNotFoundError, PolarsError

from pipelines.curation.outcomes import dropped_by
from pipelines.stage.errors import UserError
from pipelines.storage import QueryRange, TableVersion
from pipelines.storage.commits import CurationResult, Input
from pipelines.students.training_config import BatchConfig

IN_TRAINING = pl.col("split") == "train"
LEAKS = "text_in_evaluation_set"  # the reason why curation drops a row that must not be trained on in any way


def training_rows(curated: TableVersion, config: BatchConfig) -> pl.LazyFrame:
    """The rows of the training split for which `where` holds. Raises UserError when it is no condition on them."""
    rows = curated.scan().filter(IN_TRAINING)
    return rows if config.where is None else rows.filter(_condition(config.where, rows.collect_schema(), str(curated)))


def check_rows(curated: TableVersion, config: BatchConfig) -> int:
    """Refuse a condition that cannot be asked or leaves nothing, and weights of other sources; counts the rows."""
    rows = training_rows(curated, config)
    sources = dict(rows.group_by("source").len().sort("source").collect(engine="streaming").iter_rows())
    if config.where is not None and not sources:
        raise UserError(
            f"distill.where is {config.where!r}, which holds for no row of {curated}'s train split; expected some: "
            f'`python -m jobs query "SELECT * FROM curated_triplets LIMIT 9"` shows rows'
        )
    if unknown := sorted(config.source_weights.keys() - sources.keys()):
        raise UserError(
            f"distill.source_weights names {', '.join(unknown)}, but the rows to train on are of the sources "
            f"{', '.join(sources)}; expected some of these"
        )
    if sources and not any(config.source_weights.get(source, 1.0) for source in sources):
        raise UserError(
            f"distill.source_weights leaves out all sources of {curated}: {', '.join(sources)}; expected a weight "
            "above 0 for one of them"
        )
    return sum(sources.values())


def _condition(where: str, schema: pl.Schema, version: str) -> pl.Expr:
    """The condition on one row, as polars reads it."""
    expected = f"distill.where is {where!r}, expected a condition on a row of {version}"
    columns = ", ".join(schema)
    try:
        condition = pl.sql_expr(where)
        found = schema.to_frame().lazy().select(condition).collect_schema().dtypes()
        if found != [pl.Boolean()]:
            raise UserError(f"{expected} that is true or false, found {', '.join(map(str, found))}; it has {columns}")
        schema.to_frame().filter(condition)  # refuses what only running it tells: a number compared with a text
    except ColumnNotFoundError as error:
        unknown = str(error).partition(";")[0].splitlines()[0]
        raise UserError(f"{expected}: {unknown}; it has {columns}") from error
    except PolarsError as error:
        raise UserError(
            f"{expected}, like \"source = 'faq' AND teacher_margin > 1\": {str(error).splitlines()[0]}; the columns "
            f"are {columns}"
        ) from error
    if _spans_rows(json.loads(condition.meta.serialize(format="json"))):
        raise UserError(f"{expected} alone: it must not aggregate over rows (MAX, AVG, OVER); the columns: {columns}")
    return condition


def _spans_rows(node: Any) -> bool:
    """Whether a part of an expression, as polars writes it, reads other rows than its own: ranges are read apart."""
    if isinstance(node, list):
        return any(map(_spans_rows, node))
    if isinstance(node, dict):
        inner = [value for name, value in node.items() if name not in ("Column", "Scalar", "Literal")]
        return bool({"Agg", "Over", "Rolling"} & node.keys()) or any(map(_spans_rows, inner))
    return bool(node == "Len")


class ScoredPassages:
    """Every passage that the curation's teacher scored for a query, rows that it dropped or corrected included.

    Left out are rows without scores, and those that hold a text of an evaluation set.
    """

    def __init__(self, curated: TableVersion) -> None:
        """Raises UserError when the scored version, or what the curation dropped of it, is not there any more."""
        origin, dropped = curated.origin(), dropped_by(curated)
        read = origin.commit.inputs[0] if origin.commit.inputs else Input()
        made_by = origin.commit.reports(CurationResult)
        if dropped is None or made_by is None or not read.version.startswith("scored_triplets@"):
            raise UserError(
                f"distill.candidates_from is 'scored', but what the curation of {curated} read and dropped is not "
                "known here; curate again, or set distill.candidates_from=curated"
            )
        self.curated, self.dropped, self.teacher = curated, dropped.usable(), made_by.teacher
        self.scored = curated.tables.recorded(read).usable()

    def of_queries(self, queries: pl.DataFrame, query_range: QueryRange) -> pl.DataFrame:
        """query_id, passage_id, passage, score and relevance of some queries of a range, by query and passage.

        Args:
            queries: their query_id, each once.
        """
        passages = self.passages(queries.lazy(), query_range).collect(engine="streaming")
        by_pair = ["query_id", "passage_id"]
        return passages.sort(*by_pair, "score").unique(by_pair, keep="first", maintain_order=True)

    def passages(self, queries: pl.LazyFrame, query_range: QueryRange) -> pl.LazyFrame:
        """The same lazily and in any order, a passage as often as rows have it."""
        in_range = query_range.contains("query_id")
        kept = self.curated.scan().filter(in_range)
        usable = self.dropped.scan().filter(in_range & (pl.col("drop_reason") != LEAKS)).select("triplet_id")
        curated = pl.concat([kept.select(triplet_id=pl.coalesce("original_triplet_id", "triplet_id")), usable])
        of_teacher = (pl.col("teacher") == pl.lit(self.teacher)) & pl.col("scoring_error").is_null()
        rows = self.scored.scan().filter(in_range & of_teacher).join(queries, on="query_id", how="semi")
        rows = rows.join(curated, on="triplet_id", how="semi")
        sides = [
            rows.select(
                "query_id",
                passage_id=f"{side}_id",
                passage=side,
                score=f"{side}_score",
                relevance=f"{side}_relevance",
            )
            for side in ("positive", "negative")
        ]
        return pl.concat(sides).filter(pl.col("score").is_finite())
