"""Query by query: where the student wins and loses against its teacher, and what either ranked where they differ most.

    evaluations  --by_query-->  wins, ties and losses; the worst and the best queries, with passages of the scored
                                triplets and ranks

Texts come from the scored triplets alone: what stands in a BEIR folder has none here.
"""

from typing import NamedTuple

import polars as pl

from pipelines.report.quality import METRIC, Measured
from pipelines.report.subject import Row, Subject
from pipelines.storage import TableVersion

DIFFERENCE_BINS = 21  # of -1 to 1: the middle one holds the queries on which both are equal
WORST_QUERIES, BEST_QUERIES = 10, 3
OWN_PASSAGES = 5  # of a query's own triplets, those that the teacher scores best
BEST_RANKS = 3  # of the student's


class ByQuery(NamedTuple):
    """The student against its teacher, query by query, at the dimension where both are compared."""

    data_set: str
    dimension: int
    wins: int
    ties: int
    losses: int
    bins: pl.DataFrame  # low, high (difference of nDCG@10), rows
    worst: pl.DataFrame  # query_id, student, teacher, difference, query (null: no table has it); lost, most first
    best: pl.DataFrame  # the same, won
    passages: dict[str, list[Row]]  # query_id -> its passages: role, text, chars, teacher_score, student's, teacher's
    why_no_texts: str | None
    has_ranks: bool  # older evaluations did not record them


def by_query(subject: Subject, measured: Measured) -> ByQuery | str:
    """Wins, ties and losses; or why they cannot be told."""
    teacher = next((one for one, role in measured.roles.items() if role == "teacher"), None)
    values = measured.values.filter(pl.col("metric") == METRIC)
    of_teacher = values.filter(pl.col("model_id") == teacher)
    if of_teacher.is_empty():
        return f"no values of its teacher ({teacher}) are recorded for {measured.data_set}"
    own = values.filter(pl.col("model_id") == measured.model_id)
    dimension = int(str(own["dimension"].max()))
    at = dimension if dimension in of_teacher["dimension"] else int(str(of_teacher["dimension"].max()))
    both = (
        _named(own.filter(pl.col("dimension") == dimension), "student")
        .join(_named(of_teacher.filter(pl.col("dimension") == at), "teacher"), on="query_id")
        .with_columns(difference=pl.col("student") - pl.col("teacher"))
    )
    bin_ = ((pl.col("difference") + 1) / 2 * DIFFERENCE_BINS).floor().clip(0, DIFFERENCE_BINS - 1)
    every = pl.DataFrame({"bin": range(DIFFERENCE_BINS)}).with_columns(pl.col("bin").cast(pl.Float64))
    counts = every.join(both.group_by(bin=bin_).agg(rows=pl.len()), on="bin", how="left").fill_null(0)
    low = pl.col("bin") * 2 / DIFFERENCE_BINS - 1
    bins = counts.select("rows", low=low, high=low + 2 / DIFFERENCE_BINS)
    worst = both.filter(pl.col("difference") < 0).sort("difference", "query_id").head(WORST_QUERIES)
    best = both.filter(pl.col("difference") > 0).sort(-pl.col("difference"), "query_id").head(BEST_QUERIES)
    shown = pl.concat([worst, best])
    passages, why = _passages(subject, measured.data_set, shown)
    texts = pl.DataFrame(
        [(query_id, query) for query_id, rows in passages.items() if (query := rows[0]["query"])],
        schema={"query_id": pl.String, "query": pl.String}, orient="row",
    )  # fmt: skip
    signs = [int((both["difference"] * sign > 0).sum()) for sign in (1, -1)]
    return ByQuery(
        measured.data_set, dimension, signs[0], len(both) - sum(signs), signs[1], bins,
        worst.join(texts, on="query_id", how="left", maintain_order="left"),
        best.join(texts, on="query_id", how="left", maintain_order="left"), passages, why,
        has_ranks=not shown.select("student_ranked", "teacher_ranked").null_count().sum_horizontal().item(),
    )  # fmt: skip


def _named(values: pl.DataFrame, system: str) -> pl.DataFrame:
    return values.select("query_id", pl.col("value").alias(system), pl.col("ranked_ids").alias(f"{system}_ranked"))


def _passages(subject: Subject, data_set: str, queries: pl.DataFrame) -> tuple[dict[str, list[Row]], str | None]:
    """Passages of each query, the student's best first; and why there are none."""
    if subject.scored is None:
        return {}, "the scored triplets that hold the texts cannot be read any more"
    if not data_set.startswith("curated_triplets@"):
        return {}, f"the tables hold no texts of {data_set}: they stand in the folder that it was read from"
    own = _own_passages(subject.scored, subject.result.teacher, queries["query_id"].to_list())
    if own.is_empty():
        return {}, f"no scored triplet has these queries of {data_set}" if len(queries) else None
    found = pl.concat([own, _ranked_passages(subject.scored, queries, own)], how="diagonal")
    for system in ("student", "teacher"):
        found = found.join(_ranks(queries, system), on=["query_id", "text_id"], how="left")
    is_shown = (pl.col("own_rank") <= OWN_PASSAGES) | (pl.col("student_rank") <= BEST_RANKS)
    ordered = found.filter(is_shown).sort(
        "query_id", "student_rank", "teacher_score", "text_id",
        descending=[False, False, True, False], nulls_last=True,
    )  # fmt: skip
    passages: dict[str, list[Row]] = {}
    for row in ordered.with_columns(pl.col("query").max().over("query_id")).to_dicts():
        passages.setdefault(row["query_id"], []).append(row)
    return passages, None


def _ranks(queries: pl.DataFrame, system: str) -> pl.DataFrame:
    """query_id, text_id and SYSTEM_rank, from 1, of what a system ranked best."""
    ranked = queries.select("query_id", text_id=f"{system}_ranked").explode("text_id", empty_as_null=True).drop_nulls()
    return ranked.with_columns(pl.int_range(1, pl.len() + 1).over("query_id").alias(f"{system}_rank"))


def _own_passages(scored: TableVersion, teacher: str, query_ids: list[str]) -> pl.DataFrame:
    """What the queries' triplets have, as ingested, with the teacher's scores; `own_rank` is by these, from 1."""
    rows = scored.scan().filter(pl.col("query_id").is_in(query_ids) & (pl.col("teacher") == teacher))
    sides = [
        rows.select(
            "query_id", pl.col("query").str.head(2_000), *_text(role),
            role=pl.lit(role), teacher_score=f"{role}_score",
        )
        for role in ("positive", "negative")
    ]  # fmt: skip
    found = pl.concat(sides).unique(["query_id", "text_id"]).collect(engine="streaming")
    order = pl.struct(-pl.col("teacher_score").fill_null(-float("inf")), "text_id")
    return found.with_columns(own_rank=order.rank("ordinal").over("query_id"))


def _ranked_passages(scored: TableVersion, queries: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """What the student ranked best and no triplet of the query has: passages of other queries."""
    best = _ranks(queries, "student").filter(pl.col("student_rank") <= BEST_RANKS).drop("student_rank")
    others = best.join(own, on=["query_id", "text_id"], how="anti")
    if others.is_empty():  # no reason to look through the whole table
        return others
    sides = [
        scored.scan().filter(pl.col(f"{role}_id").is_in(others["text_id"].to_list())).select(_text(role))
        for role in ("positive", "negative")
    ]
    texts = pl.concat(sides).unique("text_id").collect(engine="streaming")
    return others.join(texts, on="text_id").with_columns(role=pl.lit("of another query"))


def _text(role: str) -> list[pl.Expr]:
    text = pl.col(role)
    return [
        pl.col(f"{role}_id").alias("text_id"), text.str.head(2_000).alias("text"),
        text.str.len_chars().alias("chars"),
    ]  # fmt: skip
