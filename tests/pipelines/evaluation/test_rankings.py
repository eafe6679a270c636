"""What encoders, cross-encoders and BM25 rank: order, cuts, depth, and texts that cannot be read."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.curation.held_out import EvaluationSet
from pipelines.evaluation.evaluation_sets import beir_set
from pipelines.evaluation.metrics import per_query
from pipelines.evaluation.rankings import bm25_ranking, dense_rankings, reranked
from pipelines.teachers.config import TeacherConfig, load_teacher
from tests.tiny import tiny_cross_encoder

BEIR = Path(__file__).parents[4] / "shared" / "data" / "beir"
CORPUS = {"p1": "red king", "p2": "blue fish in the sea", "p3": "the king", "p4": "old winter night"}
QUERIES = {"q1": "king", "q2": "blue sea"}
SET = EvaluationSet("made/up", QUERIES, CORPUS, {"q1": {"p3": 1}, "q2": {"p2": 1}})


class Compass:
    """Encodes the texts of one set by the vectors it is given."""

    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts, kind, /):
        return np.array([self.vectors[text] for text in texts], dtype=np.float32)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return load_teacher(TeacherConfig(teacher=tiny_cross_encoder(tmp_path_factory.mktemp("teacher")), max_tokens=64))


def test_an_encoder_ranks_by_cosine_at_each_dimension():
    passages = {"red king": [1, 0], "blue fish in the sea": [1, 9], "the king": [-1, 0], "old winter night": [3, 1]}
    found = dense_rankings(Compass({"king": [1, 0], "blue sea": [0, 1], **passages}), [2, 1], SET)

    assert found[2] == {"q1": ["p1", "p4", "p2", "p3"], "q2": ["p2", "p4", "p1", "p3"]}
    assert found[1]["q1"] == ["p1", "p2", "p4", "p3"]  # on one dimension three are equal: in order of their ids


def test_bm25_ranks_only_passages_that_share_a_word():
    assert bm25_ranking(SET) == {"q1": ["p3", "p1"], "q2": ["p2"]}


@pytest.mark.slow
@pytest.mark.skipif(not BEIR.exists(), reason="needs ../shared/data/beir")
@pytest.mark.parametrize(
    ("data_set", "ndcg"),
    [("scifact", 0.6676), ("cranfield", 0.4975), ("medlars", 0.6763), ("npl", 0.4248), ("hotpotqa_mini", 0.7880),
     ("adi", 0.4605), ("trec_dl19", 0.4765)],
)  # fmt: skip
def test_bm25_in_english_is_as_good_as_it_was(data_set, ndcg):
    evaluation_set = beir_set(BEIR / data_set)
    values = per_query(evaluation_set.qrels, bm25_ranking(evaluation_set))

    assert values.filter(pl.col("metric") == "nDCG@10")["value"].mean() == pytest.approx(ndcg, abs=0.0005)


def test_a_cross_encoder_sorts_what_it_reads_and_leaves_the_rest(teacher):
    first_stage = {"q1": ["p1", "p2", "p3", "p4"], "q2": ["p4"]}
    scores = dict(zip(CORPUS, teacher.score(["king"] * 4, list(CORPUS.values())).score.tolist(), strict=True))

    whole = reranked(teacher, SET, first_stage, depth=100)
    part = reranked(teacher, SET, first_stage, depth=3)

    assert whole == {"q1": sorted(CORPUS, key=scores.__getitem__, reverse=True), "q2": ["p4"]}
    assert part["q1"] == [*sorted(["p1", "p2", "p3"], key=scores.__getitem__, reverse=True), "p4"]


def test_a_pair_that_cannot_be_scored_comes_last_among_those_read(teacher):
    broken = SET._replace(corpus=CORPUS | {"p1": "\ud800"})

    ranking = reranked(teacher, broken, {"q1": ["p1", "p2", "p3"]}, depth=100)["q1"]

    assert ranking[-1] == "p1"
    assert set(ranking) == {"p1", "p2", "p3"}


def test_a_querys_own_passages_are_ranked_by_nobody_and_others_move_up(teacher):
    corpus = CORPUS | {f"x{number:03}": "king" for number in range(120)}
    own = SET._replace(corpus=corpus, own={"q1": {"x000", "x001"}})
    vectors = {text: [1, 0] if "king" in text else [0, 1] for text in [*corpus.values(), *QUERIES.values()]}

    dense, words = dense_rankings(Compass(vectors), [2, 1], own), bm25_ranking(own)
    read = reranked(teacher, own, words, depth=3)

    for ranking in (dense[2], dense[1], words, read):
        assert {"x000", "x001"}.isdisjoint(ranking["q1"])
        assert len(ranking["q1"]) == 100
    assert len(dense[2]["q2"]) == 100
    assert dense[2]["q1"] == ["p1", "p3", *(f"x{number:03}" for number in range(2, 100))]
