"""What is left to read, counted by ids, is what an actor then finds in the chunks."""

import polars as pl
import pytest

from pipelines.scoring import workload
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.streams import PairStream, TextStream
from pipelines.scoring.workload import count, to_read
from pipelines.storage import Lineage, Tables, new_version
from pipelines.storage.commits import ScoringResult
from pipelines.streaming.stream import Plan
from schemas import ScoredTriplets, TeacherVectors
from tests.rows import frame_of
from tests.scored_versions import JUDGE, scored_rows, write_triplets


def rows_of(first: int, queries: int) -> pl.DataFrame:
    """Of each query three triplets with one positive and passages that queries share."""
    texts = [
        (f"query {n}", f"passage {n}", 1.0, f"passage {n + k}", 0.0)
        for n in range(first, first + queries)
        for k in (1, 2, 3)
    ]
    return scored_rows(texts)


def stream_of(tables: Tables, kind: str, stream: type = PairStream):
    config = ScoreConfig(teacher="judge", teacher_kind=kind, chunk_rows=20, precision="float32")
    return stream(tables.latest("triplets"), config, JUDGE, "again", 1.0)


def write_scored(tables: Tables, rows: pl.DataFrame) -> None:
    with new_version(tables, ScoredTriplets, Lineage("score", [], ScoreConfig())) as scored:
        scored.write(rows)
        scored.result = ScoringResult(teacher=JUDGE)


@pytest.fixture
def tables(tmp_path) -> Tables:
    return Tables.at(str(tmp_path / "tables"))


@pytest.mark.parametrize("kind", ["cross_encoder", "bi_encoder"])
@pytest.mark.parametrize("rows_at_once", [1, 500_000])
def test_what_is_counted_is_what_an_actor_reads(tables, kind, rows_at_once, monkeypatch):
    monkeypatch.setattr(workload, "ROWS_AT_ONCE", rows_at_once)
    rows = rows_of(0, 30)
    write_triplets(tables, rows)
    plan = Plan.of(stream_of(tables, kind))
    chunks = plan.chunks(1)

    counted = count(plan, chunks)

    assert len(chunks) > 3
    assert counted["chunk"].to_list() == list(range(len(chunks)))
    assert counted["rows"].sum() == 90
    assert counted["pairs"].sum() == 120  # a query's positive and its three negatives
    assert counted["read"].to_list() == [len(to_read(plan.stream, chunk)) for chunk in chunks]
    if kind == "cross_encoder":
        assert counted["read"].equals(counted["pairs"], check_names=False)


def test_pairs_that_have_a_score_are_not_counted_again(tables):
    rows = rows_of(0, 10)
    write_triplets(tables, rows)
    write_scored(tables, rows.filter(pl.int_range(pl.len()) % 3 == 0))  # of each query its first triplet
    plan = Plan.of(stream_of(tables, "cross_encoder"))

    counted = count(plan, plan.chunks(1))

    assert (counted["rows"].sum(), counted["pairs"].sum()) == (20, 20)  # two negatives a query; the positive is known
    failed = rows_of(20, 1).with_columns(
        *(
            pl.lit(None, pl.Float32).alias(f"{side}_{of}")
            for side in ("positive", "negative")
            for of in ("score", "relevance")
        ),
        scoring_error=pl.lit("positive: poison"),
    )
    grown = write_triplets(tables, rows_of(20, 1))
    write_scored(tables, failed.head(1))
    plan = Plan.of(PairStream(grown, plan.stream.config, JUDGE, "again", 1.0))
    assert count(plan, plan.chunks(1))["pairs"].sum() == 20 + 3  # the pair of a row that failed has no score


def test_pairs_whose_texts_have_vectors_need_no_teacher(tables):
    rows = rows_of(0, 4)
    write_triplets(tables, rows)
    texts = [(row["query_id"], "query") for row in rows.to_dicts()[:3]]  # of the first query
    texts += [(row["negative_id"], "passage") for row in rows.to_dicts()[:2]]
    vectors = [
        {"text_id": one, "kind": kind, "vector": [1.0, 0.0], "tokens_cut": 0} for one, kind in dict.fromkeys(texts)
    ]
    with new_version(tables, TeacherVectors, Lineage("score", [], ScoreConfig())) as written:
        written.write(frame_of(TeacherVectors, *vectors, teacher=JUDGE))
        written.result = ScoringResult(teacher=JUDGE)
    plan = Plan.of(stream_of(tables, "bi_encoder"))
    chunks = plan.chunks(1)

    counted = count(plan, chunks)

    assert counted["pairs"].sum() == 16 - 2
    assert counted["read"].to_list() == [len(to_read(plan.stream, chunk)) for chunk in chunks]


def test_texts_are_counted_one_by_one(tables):
    write_triplets(tables, rows_of(0, 10))
    plan = Plan.of(stream_of(tables, "bi_encoder", TextStream))
    chunks = plan.chunks(1)

    counted = count(plan, chunks)

    assert counted["read"].sum() == 10 + 13
    assert counted["pairs"].sum() == 0
    assert counted["read"].to_list() == [len(to_read(plan.stream, chunk)) for chunk in chunks]
