"""What models are evaluated on: the test split of a curated version, and BEIR folders; and their overlap with training.

    curated_triplets@v  --held_out_set-->  queries of its test split, relevance as ingested, passages of its triplets
    BEIR folder         --beir_set-->      the same shape, whole

The test split asks what the ingested triplets say is relevant, not what the teacher agreed with: relevance comes from
`triplets`, before curation. Its corpus is every passage of those triplets, training ones included (transductive).
A passage that is the query itself is not ranked for it, unless it is judged relevant (BEIR's ignore_identical_ids).
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from pipelines.curation.outcomes import curation_of, dropped_by
from pipelines.intake.beir import read_beir
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import TableVersion
from pipelines.texts.comparison import normalise, same_texts
from pipelines.texts.ids import text_id
from pipelines.texts.splits import split_of

ROWS_PER_BLOCK = 200_000


class EvaluationSet(NamedTuple):
    """Judged queries over a corpus, both in the order of their ids."""

    name: str  # as `evaluations` names it
    queries: dict[str, str]  # query id -> text; only queries with a relevant passage
    corpus: dict[str, str]  # passage id -> text
    qrels: dict[str, dict[str, int]]  # query id -> passage id -> grade
    own: Mapping[str, Collection[str]] = MappingProxyType({})  # query id -> passage ids that are not ranked for it


def beir_set(folder: str | Path) -> EvaluationSet:
    """A BEIR folder's test judgements, whole: its figures can be compared with published ones."""
    beir = read_beir(folder)
    if beir.complaint():
        tell(beir.complaint())
    queries = {query_id: beir.queries[query_id] for query_id in sorted(beir.qrels)}
    corpus = dict(sorted(beir.corpus.items()))
    return _told(EvaluationSet(beir.data_set, queries, corpus, beir.qrels, beir.own_documents()))


def _told(one: EvaluationSet) -> EvaluationSet:
    """The same set; says for how many queries a passage is not ranked."""
    if one.own:
        tell(
            f"{one.name}: {len(one.own):,} of {len(one.queries):,} queries stand in the corpus themselves, as "
            f"{sum(map(len, one.own.values())):,} passages not judged relevant for them: these are ranked by no system"
        )
    return one


def held_out_set(curated: TableVersion, max_queries: int | None, max_passages: int | None) -> EvaluationSet | None:
    """The test split; None when no query is in it.

    A sample is named as one (`curated_triplets@7/test:1000q`): figures over other queries or passages are another data
    set's. It takes the smallest ids, which are hashes: random, and the same each time. Relevant passages are always in.
    Memory: the sample, and one block of triplets.
    """
    triplets = input_of(curated.usable(), "triplets").usable()
    query_ids = test_query_ids(curated)
    sampled_ids = query_ids.head(max_queries) if max_queries else query_ids
    columns = ["query_id", "query", "positive_id", "positive"]
    of_queries = triplets.scan().filter(pl.col("query_id").is_in(sampled_ids.implode())).select(columns)
    judged = of_queries.unique(["query_id", "positive_id"]).collect(engine="streaming")
    if judged.is_empty():
        return None
    passages, is_sample = _passages(triplets, _texts_in(judged.lazy(), "positive").collect(), max_passages)
    sample = [f"{len(sampled_ids)}q"] if len(sampled_ids) < len(query_ids) else []
    sample += [f"{len(passages)}p"] if is_sample else []
    qrels: dict[str, dict[str, int]] = {}
    for query_id, positive_id in judged.select("query_id", "positive_id").sort("query_id", "positive_id").iter_rows():
        qrels.setdefault(query_id, {})[positive_id] = 1
    queries = dict(judged.select("query_id", "query").unique().sort("query_id").iter_rows())
    corpus = dict(passages.sort("text_id").iter_rows())
    own: dict[str, set[str]] = {}
    for query_id, passage_id in same_texts(queries, corpus):
        if passage_id not in qrels[query_id]:
            own.setdefault(query_id, set()).add(passage_id)
    name = f"{curated}/test" + (f":{','.join(sample)}" if sample else "")
    return _told(EvaluationSet(name, queries, corpus, qrels, own))


def why_not_held_out(curated: TableVersion) -> str | None:
    """What keeps a version's test split from being asked: one of the versions that say what is in it."""
    told = [curated]
    if curated.unusable is None:
        dropped = dropped_by(curated)
        if dropped is None and curation_of(curated).curation:
            return f"dropped_triplets has no version of the curation that made {curated}"
        told += [one for one in (input_of(curated, "triplets"), dropped) if one]
    return next((f"{one} {one.unusable}" for one in told if one.unusable), None)


def count_overlap(sets: Sequence[EvaluationSet], *curated: TableVersion) -> pl.DataFrame:
    """How many evaluation texts stand in the train split of any of these versions, per data set and kind of text.

    Returns:
        data_set, kind (query, passage), texts, exact (the same text), near (the same but for case, punctuation and
        space; the exact ones included). Any training text counts, whether query, positive or negative.
    """
    found = [
        (one.name, kind, text_id(text), text)
        for one in sets
        for kind, of_kind in (("query", one.queries), ("passage", one.corpus))
        for text in of_kind.values()
    ]
    texts = pl.DataFrame(found, dict.fromkeys(["data_set", "kind", "text_id", "text"], pl.String), orient="row")
    texts = texts.with_columns(exact=pl.lit(False), near=pl.lit(False), normalised=normalise(pl.col("text")))
    ranges = ((version, one) for version in curated for one in version.query_ranges(ROWS_PER_BLOCK))
    for version, query_range in ranges if sets else ():
        rows = version.scan().filter(query_range.contains("query_id") & (pl.col("split") == "train"))
        training = _texts_in(rows, "query", "positive", "negative")
        block = training.select("text_id", normalised=normalise(pl.col("text"))).collect()
        texts = texts.with_columns(
            exact=pl.col("exact") | pl.col("text_id").is_in(block["text_id"].implode()),
            near=pl.col("near") | pl.col("normalised").is_in(block["normalised"].implode()),
        )
    return texts.group_by("data_set", "kind", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("texts"), pl.col("exact", "near").sum().cast(pl.Int64)
    )


def input_of(version: TableVersion, table: str) -> TableVersion:
    """The version of a table that this version was made from, as its commit says."""
    inputs = version.written().commit.inputs
    found = [one for one in inputs if one.version.startswith(f"{table}@")]
    if not found:
        raise UserError(f"{version} does not say which {table} it was made from; expected a version that curate wrote")
    return version.tables.recorded(found[0])


def test_query_ids(curated: TableVersion) -> pl.Series:
    """Scored queries of the test split, kept or dropped by a rule, less those that would leak; sorted."""
    dropped, config = dropped_by(curated), curated.written().commit.config
    is_test = split_of(pl.col("query"), config["dev_share"], config["test_share"]) == "test"
    kept = curated.scan().filter(pl.col("split") == "test").select("query_id").unique().collect()
    if dropped is None:
        return kept["query_id"].sort()
    lost = dropped.scan().filter(is_test).select("query_id", "drop_reason").unique().collect(engine="streaming")
    leaking = lost.filter(pl.col("drop_reason").is_in(["positive_in_training", "text_in_evaluation_set"]))
    scored = pl.concat([kept, lost.select("query_id")]).unique()
    return scored.join(leaking, on="query_id", how="anti")["query_id"].sort()


def _passages(triplets: TableVersion, relevant: pl.DataFrame, max_passages: int | None) -> tuple[pl.DataFrame, bool]:
    """text_id and text: the relevant ones and others up to the maximum; and whether some were left out."""
    others = relevant.clear()
    num_others = max(0, max_passages - len(relevant)) if max_passages else None
    is_sample = False
    for query_range in triplets.query_ranges(ROWS_PER_BLOCK):
        rows = triplets.scan().filter(query_range.contains("query_id"))
        block = _texts_in(rows, "positive", "negative").collect().join(relevant, on="text_id", how="anti")
        others = pl.concat([others, block]).unique("text_id").sort("text_id")
        is_sample |= num_others is not None and len(others) > num_others
        others = others.head(num_others) if num_others is not None else others
    return pl.concat([relevant, others]), is_sample


def _texts_in(rows: pl.LazyFrame, *sides: str) -> pl.LazyFrame:
    """text_id and text of these sides of triplets, each once."""
    columns = [rows.select(pl.col(f"{side}_id").alias("text_id"), pl.col(side).alias("text")) for side in sides]
    return pl.concat(columns).unique("text_id")
