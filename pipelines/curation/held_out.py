"""What a curation holds out of training: the queries of its test and dev split, what is relevant to them, and a corpus.

    curated_triplets@v  --held_out_set-->  queries of a split, relevance as ingested, passages of the triplets

A split asks what the ingested triplets say is relevant, not what the teacher agreed with: relevance comes from
`triplets`, before curation. Its corpus is passages of those triplets, training ones included (transductive).
A passage that is the query itself is not ranked for it, unless it is judged relevant (BEIR's ignore_identical_ids).
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import polars as pl

from pipelines.curation.outcomes import curation_of, dropped_by
from pipelines.stage.errors import UserError
from pipelines.storage import TableVersion
from pipelines.texts.comparison import same_texts
from pipelines.texts.splits import split_of

ROWS_PER_BLOCK = 200_000

Split = Literal["dev", "test"]


class EvaluationSet(NamedTuple):
    """Judged queries over a corpus, both in the order of their ids."""

    name: str  # as `evaluations` names it
    queries: dict[str, str]  # query id -> text; only queries with a relevant passage
    corpus: dict[str, str]  # passage id -> text
    qrels: dict[str, dict[str, int]]  # query id -> passage id -> grade
    own: Mapping[str, Collection[str]] = MappingProxyType({})  # query id -> passage ids that are not ranked for it


def held_out_set(
    curated: TableVersion,
    max_queries: int | None,
    max_passages: int | None,
    *,
    split: Split = "test",
    with_negatives: bool = False,
) -> EvaluationSet | None:
    """The queries of a split, judged over a corpus; None when no query is in it.

    A sample is named as one (`curated_triplets@7/test:1000q`): figures over other queries or passages are another data
    set's. It takes the smallest ids, which are hashes: random, and the same each time. Relevant passages are always in,
    then the negatives of the queries, if asked for, then others. Memory: the sample, and one block of triplets.
    """
    query_ids = held_out_query_ids(curated, split)
    sampled_ids = query_ids.head(max_queries) if max_queries else query_ids
    judged = judged_pairs(curated, sampled_ids)
    if judged.is_empty():
        return None
    first = [texts_in(judged.lazy(), "positive").collect()]
    if with_negatives:
        first.append(texts_in(_of_queries(curated, sampled_ids), "negative").collect(engine="streaming"))
    passages, is_sample = _passages(input_of(curated, "triplets"), first, max_passages)
    sample = [f"{len(sampled_ids)}q"] if len(sampled_ids) < len(query_ids) else []
    sample += [f"{len(passages)}p"] if is_sample else []
    qrels: dict[str, dict[str, int]] = {}
    for query_id, positive_id in judged.select("query_id", "positive_id").sort("query_id", "positive_id").iter_rows():
        qrels.setdefault(query_id, {})[positive_id] = 1
    queries = dict(judged.select("query_id", "query").unique().sort("query_id").iter_rows())
    corpus = dict(passages.sort("text_id").iter_rows())
    name = f"{curated}/{split}" + (f":{','.join(sample)}" if sample else "")
    return EvaluationSet(name, queries, corpus, qrels, _own_passages(queries, corpus, qrels))


def judged_pairs(curated: TableVersion, query_ids: pl.Series) -> pl.DataFrame:
    """query_id, query, positive_id, positive as ingested: each relevant passage of these queries once."""
    of_queries = _of_queries(curated, query_ids).select("query_id", "query", "positive_id", "positive")
    return of_queries.unique(["query_id", "positive_id"]).collect(engine="streaming")


def _of_queries(curated: TableVersion, query_ids: pl.Series) -> pl.LazyFrame:
    """The ingested triplets of these queries."""
    triplets = input_of(curated.usable(), "triplets").usable()
    return triplets.scan().filter(pl.col("query_id").is_in(query_ids.implode()))


def _own_passages(
    queries: Mapping[str, str], corpus: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]
) -> dict[str, set[str]]:
    """The passages that are the query itself and not judged relevant for it."""
    own: dict[str, set[str]] = {}
    for query_id, passage_id in same_texts(queries, corpus):
        if passage_id not in qrels[query_id]:
            own.setdefault(query_id, set()).add(passage_id)
    return own


def why_not_held_out(curated: TableVersion) -> str | None:
    """What keeps a version's held-out splits from being asked: one of the versions that say what is in them."""
    told = [curated]
    if curated.unusable is None:
        dropped = dropped_by(curated)
        if dropped is None and curation_of(curated).curation:
            return f"dropped_triplets has no version of the curation that made {curated}"
        told += [one for one in (input_of(curated, "triplets"), dropped) if one]
    return next((f"{one} {one.unusable}" for one in told if one.unusable), None)


def input_of(version: TableVersion, table: str) -> TableVersion:
    """The version of a table that this version was made from, as its commit says."""
    inputs = version.written().commit.inputs
    found = [one for one in inputs if one.version.startswith(f"{table}@")]
    if not found:
        raise UserError(f"{version} does not say which {table} it was made from; expected a version that curate wrote")
    return version.tables.recorded(found[0])


def held_out_query_ids(curated: TableVersion, split: Split = "test") -> pl.Series:
    """Scored queries of a held-out split, kept or dropped by a rule, less those that would leak; sorted."""
    dropped, config = dropped_by(curated), curated.written().commit.config
    is_in_it = split_of(pl.col("query"), config["dev_share"], config["test_share"]) == split
    kept = curated.scan().filter(pl.col("split") == split).select("query_id").unique().collect()
    if dropped is None:
        return kept["query_id"].sort()
    lost = dropped.scan().filter(is_in_it).select("query_id", "drop_reason").unique().collect(engine="streaming")
    leaking = lost.filter(pl.col("drop_reason").is_in(["positive_in_training", "text_in_evaluation_set"]))
    scored = pl.concat([kept, lost.select("query_id")]).unique()
    return scored.join(leaking, on="query_id", how="anti")["query_id"].sort()


def _passages(triplets: TableVersion, first: list[pl.DataFrame], max_passages: int | None) -> tuple[pl.DataFrame, bool]:
    """text_id and text: the first of `first` whole, then its others, then the rest, each by its ids up to the maximum;
    and whether some were left out."""
    chosen, is_sample = first[0], False
    for wanted in first[1:]:
        new = wanted.join(chosen, on="text_id", how="anti").sort("text_id")
        room = len(new) if max_passages is None else max(0, max_passages - len(chosen))
        chosen, is_sample = pl.concat([chosen, new.head(room)]), is_sample or len(new) > room
    others = chosen.clear()
    num_others = max(0, max_passages - len(chosen)) if max_passages else None
    for query_range in triplets.query_ranges(ROWS_PER_BLOCK):
        rows = triplets.scan().filter(query_range.contains("query_id"))
        block = texts_in(rows, "positive", "negative").collect().join(chosen, on="text_id", how="anti")
        others = pl.concat([others, block]).unique("text_id").sort("text_id")
        is_sample |= num_others is not None and len(others) > num_others
        others = others.head(num_others) if num_others is not None else others
    return pl.concat([chosen, others]), is_sample


def texts_in(rows: pl.LazyFrame, *sides: str) -> pl.LazyFrame:
    """text_id and text of these sides of triplets, each once."""
    columns = [rows.select(pl.col(f"{side}_id").alias("text_id"), pl.col(side).alias("text")) for side in sides]
    return pl.concat(columns).unique("text_id")
