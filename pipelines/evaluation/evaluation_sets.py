"""What models are evaluated on: the test split of a curated version, and BEIR folders; and their overlap with training.

curated_triplets@v  --held_out_test_set-->  queries of its test split (curation/held_out.py)
BEIR folder         --beir_set-->           the same shape, whole
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipelines.curation.held_out import ROWS_PER_BLOCK, EvaluationSet, held_out_set, texts_in
from pipelines.intake.beir import read_beir
from pipelines.stage.printable import counted
from pipelines.stage.progress import tell
from pipelines.storage import TableVersion
from pipelines.texts.comparison import normalise
from pipelines.texts.ids import text_id


def beir_set(folder: str | Path) -> EvaluationSet:
    """A BEIR folder's test judgements, whole: its figures can be compared with published ones."""
    beir = read_beir(folder)
    if beir.complaint():
        tell(beir.complaint())
    queries = {query_id: beir.queries[query_id] for query_id in sorted(beir.qrels)}
    corpus = dict(sorted(beir.corpus.items()))
    return _told(EvaluationSet(beir.data_set, queries, corpus, beir.qrels, beir.own_documents()))


def held_out_test_set(curated: TableVersion, max_queries: int | None, max_passages: int | None) -> EvaluationSet | None:
    """The test split; None when no query is in it."""
    found = held_out_set(curated, max_queries, max_passages)
    return _told(found) if found else None


def _told(one: EvaluationSet) -> EvaluationSet:
    """The same set; says for how many queries a passage is not ranked."""
    if one.own:
        tell(
            f"{one.name}: {len(one.own):,} of {len(one.queries):,} queries stand in the corpus themselves, as "
            f"{counted(sum(map(len, one.own.values())), 'passage')} not judged relevant for them, ranked by no system"
        )
    return one


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
        training = texts_in(rows, "query", "positive", "negative")
        block = training.select("text_id", normalised=normalise(pl.col("text"))).collect()
        texts = texts.with_columns(
            exact=pl.col("exact") | pl.col("text_id").is_in(block["text_id"].implode()),
            near=pl.col("near") | pl.col("normalised").is_in(block["normalised"].implode()),
        )
    return texts.group_by("data_set", "kind", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("texts"), pl.col("exact", "near").sum().cast(pl.Int64)
    )
