"""A teacher's scores of triplets: each unique (query, passage) is scored once. Frames in, frames out; no storage."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import polars as pl

from schemas import ScoredTriplets

if TYPE_CHECKING:
    from pipelines.teachers.teacher import Teacher

PAIR_SCORES = {"score": pl.Float32, "relevance": pl.Float32, "tokens_cut": pl.Int32, "error": pl.String}
SIDES = ("positive", "negative")
NO_PAIRS = pl.DataFrame(schema={"query_id": pl.String, "passage_id": pl.String, **PAIR_SCORES})


def cosines(pairs: pl.DataFrame, vectors: pl.LazyFrame) -> pl.DataFrame:
    """The pairs both of whose texts have a vector (teacher_vectors of one teacher), with the scores these give."""
    ids = pl.concat([pairs["query_id"], pairs["passage_id"]]).unique()
    stored = vectors.filter(pl.col("text_id").is_in(ids.implode())).collect()
    for kind in ("query", "passage"):
        of_kind = stored.filter(pl.col("kind") == kind)
        named = of_kind.select(pl.col("text_id", "vector", "tokens_cut").name.prefix(f"{kind}_"))
        pairs = pairs.join(named, left_on=f"{kind}_id", right_on=f"{kind}_text_id", maintain_order="left")
    if not len(pairs):
        return NO_PAIRS
    query_ND, passage_ND = (
        pairs[f"{kind}_vector"].explode().to_numpy().reshape(len(pairs), -1) for kind in ("query", "passage")
    )
    score = (query_ND * passage_ND).sum(axis=1).clip(-1, 1)
    return pairs.select(
        "query_id",
        "passage_id",
        score=pl.lit(pl.Series(score, dtype=pl.Float32)),
        relevance=pl.lit(pl.Series((1 + score) / 2, dtype=pl.Float32)),
        tokens_cut=pl.col("query_tokens_cut") + pl.col("passage_tokens_cut"),
        error=pl.lit(None, dtype=pl.String),
    )


def pairs_to_score(rows: pl.DataFrame) -> pl.DataFrame:
    """The unique (query, passage) of some triplets."""
    return each_once(rows.select("query_id", "query", passage_id=f"{side}_id", passage=side) for side in SIDES)


def pairs_of(scored: pl.DataFrame) -> pl.DataFrame:
    """Scored triplets as unique (query_id, passage_id) with their scores."""
    names = {side: {name: f"{side}_{name}" for name in PAIR_SCORES} | {"error": "scoring_error"} for side in SIDES}
    return each_once(scored.select("query_id", passage_id=f"{side}_id", **names[side]) for side in SIDES)


def each_once(pairs: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Each (query, passage), as the first frame that has it tells."""
    return pl.concat(pairs).unique(["query_id", "passage_id"], keep="first", maintain_order=True)


def score_triplets(rows: pl.DataFrame, known: pl.DataFrame, name: str, load: "Callable[[], Teacher]") -> pl.DataFrame:
    """Triplets with their teacher's scores: each unique (query, passage) is scored once, known pairs not at all.

    The teacher is loaded only when there is a pair to score. A triplet one of whose pairs it cannot score keeps its
    row: both scores null, `scoring_error` says why.
    """
    todo = pairs_to_score(rows).join(known, on=["query_id", "passage_id"], how="anti", maintain_order="left")
    by_pair = known.select(NO_PAIRS.columns)
    if len(todo):
        scores = load().score(todo["query"].to_list(), todo["passage"].to_list())
        columns = [pl.Series(name, getattr(scores, name), dtype) for name, dtype in PAIR_SCORES.items()]
        by_pair = pl.concat([by_pair, todo.select("query_id", "passage_id", *columns)])
    for side in SIDES:
        named = by_pair.rename({"passage_id": f"{side}_id", **{name: f"{side}_{name}" for name in PAIR_SCORES}})
        rows = rows.join(named, on=["query_id", f"{side}_id"], how="left", maintain_order="left")
    errors = [pl.lit(f"{side}: ") + pl.col(f"{side}_error") for side in SIDES]
    error = pl.concat_str(errors, separator="; ", ignore_nulls=True)
    scored = rows.with_columns(teacher=pl.lit(name), scoring_error=pl.when(error != "").then(error))
    of_bad_rows = [f"{side}_{name}" for side in SIDES for name in ("score", "relevance")]
    scored = scored.with_columns(pl.when(pl.col("scoring_error").is_null()).then(pl.col(name)) for name in of_bad_rows)
    return scored.select(ScoredTriplets.polars_schema().keys())
