"""Dense negatives: exact over blocks, each text encoded once, none as near as a positive or a like query's."""

import json
from collections import Counter
from functools import partial

import numpy as np
import pytest

from pipelines import mine
from pipelines.mine import MineConfig
from pipelines.mining import dense, draw
from pipelines.mining.draw import Candidate, DrawConfig, draw_negatives, positive_limits
from pipelines.mining.passages import Passages
from pipelines.scoring.config import ScoreConfig
from pipelines.stage.errors import UserError
from pipelines.stage.progress import Progress
from pipelines.storage import Tables
from pipelines.teachers.config import load_teacher
from pipelines.texts.ids import text_id
from tests.clusters import connected, no_cluster
from tests.dense_indexes import index_of, unit
from tests.scorings import text
from tests.tiny import poison, tiny_bi_encoder

WIDTH, QUERIES, PASSAGES = 8, 13, 41
KINDS = {"query": "query", "positive": "passage"}
PAIRS = [{"query": text(f"q{n}", 4), "positive": text(f"p{n}")} for n in range(30)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    return tiny_bi_encoder(tmp_path_factory.mktemp("encoder") / "twin")


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


def write(tmp_path, rows, name="pairs.jsonl"):
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / name)


def index(tables, *, without=(), recall=None):
    """Over random vectors, of which some texts have none; with the vectors."""
    seeded = np.random.default_rng(5)
    ids = {kind: sorted(text_id(f"{kind}{n}") for n in range(size))
           for kind, size in (("query", QUERIES), ("passage", PASSAGES))}  # fmt: skip
    vectors = {kind: unit(seeded.standard_normal((len(of_kind), WIDTH))) for kind, of_kind in ids.items()}
    for kind, number in without:
        vectors[kind][number] = np.nan
    return index_of(tables, {kind: (ids[kind], vectors[kind]) for kind in ids}, recall), vectors


def compared(of_index, *, pairs=(), k=9, start=3, stop=11):
    pairs = np.array(pairs, np.int64).reshape(-1, 2)
    return of_index.rank(start, stop, k, pairs, Progress("t", "p", done=0, total=PASSAGES, tell=lambda line: None))


@pytest.mark.parametrize("block", [1, 10, 1000])
def test_ranks_and_cosines_are_those_of_a_full_comparison_for_any_block(tables, monkeypatch, block):
    monkeypatch.setattr(dense, "BLOCK", block)
    of_index, vectors = index(tables)
    cosines = vectors["query"][3:11].astype(np.float64) @ vectors["passage"].astype(np.float64).T
    pairs = [(7, 40), (0, 0), (2, 17), (2, 3), (0, 39)]
    hits, of_pairs = compared(of_index, pairs=pairs)

    assert np.array_equal(hits.positions, np.argsort(-cosines, axis=1)[:, :9])
    assert np.allclose(hits.scores, -np.sort(-cosines, axis=1)[:, :9], atol=1e-6)
    assert np.allclose(of_pairs, [cosines[pair] for pair in pairs], atol=1e-6)


def test_an_index_that_must_find_all_ranks_as_a_full_comparison_but_for_its_16_bits(tables, capsys):
    without = [("query", 4), ("passage", 0), ("passage", 40)]
    pairs = [(7, 40), (0, 1), (2, 17), (2, 3), (0, 39)]
    exact, of_exact = compared(index(tables, without=without)[0], pairs=pairs, k=60)
    hits, of_pairs = compared(index(tables, without=without, recall=1.0)[0], pairs=pairs, k=60)

    assert "finds 1.000 of the 41 nearest of 12 queries" in capsys.readouterr().err
    assert np.array_equal(np.sort(hits.positions, axis=1), np.sort(exact.positions, axis=1))
    assert np.array_equal(hits.positions[:, :3], exact.positions[:, :3])
    assert np.allclose(hits.scores, exact.scores, atol=2e-3)
    assert np.allclose(of_pairs, of_exact, atol=1e-6, equal_nan=True)


def test_texts_without_a_vector_are_near_to_nothing_and_missing_ranks_are_filled_up(tables):
    of_index, _ = index(tables, without=[("query", 4), ("passage", 0), ("passage", 40)])
    hits, of_pairs = compared(of_index, pairs=[(1, 5), (0, 40), (0, 39)], k=60)

    assert (hits.positions[1] == -1).all()
    assert set(hits.positions[0]) == set(range(1, 40)) | {-1}
    assert np.isnan(of_pairs).tolist() == [True, True, False]


def test_like_queries_are_those_at_least_so_near_without_the_query_itself(tables):
    of_index, vectors = index(tables)
    cosines = vectors["query"] @ vectors["query"].T
    np.fill_diagonal(cosines, -1)

    for start, stop in ((0, 13), (5, 8)):
        found = of_index.like_queries(start, stop, 0.3)
        assert [set(one) for one in found] == [set(np.flatnonzero(row >= 0.3)) for row in cosines[start:stop]]


def test_the_farthest_positive_limits_a_query_and_one_without_vectors_limits_nothing():
    cosines, queries = np.array([0.8, 0.5, -0.2, np.nan], np.float32), np.array([0, 0, 1, 2])
    limits = {
        options: positive_limits(cosines, queries, 4, DrawConfig(max_positive_share=options[0],
                                                                 min_positive_margin=options[1]))
        for options in ((0.9, None), (None, 0.1), (0.9, 0.1), (None, None))
    }  # fmt: skip

    assert np.allclose(limits[0.9, None], [0.45, -0.22, np.inf, np.inf])
    assert np.allclose(limits[None, 0.1], [0.4, -0.3, np.inf, np.inf])
    assert np.allclose(limits[0.9, 0.1], [0.4, -0.3, np.inf, np.inf])
    assert np.isinf(limits[None, None]).all()


def drawn(config, *ranked):
    passages = Passages([f"passage {n}" for n in range(100)], 100)
    candidates = [[Candidate(position, miner, rank, 0.5) for rank, position in enumerate(positions, 1)]
                  for miner, positions in ranked]  # fmt: skip
    return draw_negatives("0" * 32, candidates, set(), passages, config)


def test_miners_take_turns_and_a_passage_of_both_is_drawn_once():
    config = DrawConfig(negatives_per_query=6, random_negatives=0, draw="hardest")
    found = drawn(config, ("bm25", [1, 2, 3, 4, 5]), ("dense", [2, 1, 8, 9]))

    assert [(one.miner, one.position) for one in found] == [
        ("bm25", 1), ("dense", 2), ("bm25", 3), ("dense", 8), ("bm25", 4), ("dense", 9)]  # fmt: skip


def test_stratified_draws_one_of_each_part_of_the_ranks():
    config = DrawConfig(negatives_per_query=4, random_negatives=0, draw="stratified")
    for seed in range(20):
        found = drawn(config.model_copy(update={"seed": seed}), ("dense", list(range(40))))
        assert [one.position // 10 for one in found] == [0, 1, 2, 3]


@pytest.mark.parametrize("draws", ["random", "hardest", "stratified"])
def test_where_ranks_give_too_few_every_one_is_taken_and_random_ones_stand_in(draws):
    found = drawn(DrawConfig(negatives_per_query=5, random_negatives=1, draw=draws), ("dense", [7, 3]))

    assert Counter(one.miner for one in found) == {"dense": 2, "random": 3}
    assert {one.position for one in found if one.miner == "dense"} == {3, 7}


def mined(tables, path, encoder, connect=connected, **values):
    config = MineConfig(**{"first_rank": 1, "last_rank": 20, "random_negatives": 0, "miners": ("dense",), **values})
    score = ScoreConfig(
        teacher=encoder, teacher_kind="bi_encoder", max_tokens=64, precision="float32", chunk_rows=20, max_actors=1
    )
    return mine.run(tables, [path], config, encoder=config.encoder_config(score), connect=connect)


def test_a_row_has_the_encoders_rank_and_cosine_and_each_text_one_vector(ray_cluster, tables, tmp_path, encoder):
    path = write(tmp_path, PAIRS)
    triplets = mined(tables, path, encoder, max_positive_share=None, like_query_cosine=None)
    rows = triplets.scan().collect()
    teacher = load_teacher(ScoreConfig(teacher=encoder, teacher_kind="bi_encoder", max_tokens=64, precision="float32"))
    passages = list(Passages((pair["positive"] for pair in PAIRS), 100).texts)
    vectors = teacher.encode(passages, "passage")

    assert (len(rows), set(rows["miner"])) == (30 * 4, {"dense"})
    for query, negative, rank, cosine in rows.select("query", "negative", "rank", "miner_score").iter_rows():
        cosines = vectors @ teacher.encode([query], "query")[0]
        assert cosine == pytest.approx(cosines[passages.index(negative)], abs=1e-5)
        assert abs((cosines > cosine + 1e-5).sum() + 1 - rank) <= (np.abs(cosines - cosine) < 1e-5).sum()
    stored = tables.latest("teacher_vectors")
    texts = [(text_id(pair[side]), kind) for pair in PAIRS for side, kind in KINDS.items()]
    assert sorted(stored.scan().select("text_id", "kind").collect().rows()) == sorted(set(texts))
    assert stored.scan().collect()["text"].null_count() == stored.num_rows()
    assert [one.version for one in triplets.commit.inputs] == [str(stored)]
    assert (triplets.commit.stage, stored.commit.stage) == ("mine", "mine")

    again = partial(mined, tables, encoder=encoder, connect=no_cluster)  # every text has its vector
    assert again(path, max_positive_share=None, like_query_cosine=None) == triplets
    assert again(path, seed=1).version == triplets.version + 1


def test_no_negative_is_as_near_as_the_positive_whoever_mined_it(ray_cluster, tables, tmp_path, encoder, capsys):
    rows = mined(tables, write(tmp_path, PAIRS), encoder, miners=("bm25", "dense"), max_positive_share=0.9,
                 like_query_cosine=None).scan().collect()  # fmt: skip
    teacher = load_teacher(ScoreConfig(teacher=encoder, teacher_kind="bi_encoder", max_tokens=64, precision="float32"))
    queries = teacher.encode(rows["query"].to_list(), "query")
    cosine = {side: (queries * teacher.encode(rows[side].to_list(), "passage")).sum(axis=1)
              for side in ("positive", "negative")}  # fmt: skip
    is_ranked = (rows["miner"] != "random").to_numpy()

    assert {"bm25", "dense"} <= set(rows["miner"])
    assert (cosine["negative"] < 0.9 * cosine["positive"] + 1e-5)[is_ranked].all()
    assert "candidates within the ranks are no negatives" in capsys.readouterr().err


@pytest.mark.slow
def test_a_positive_of_a_like_query_is_no_negative(ray_cluster, tables, tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(dense, "LIKE_QUERIES", 60)
    like = [
        {"query": f"{pair['query']} {pair['query'].split()[0]}", "positive": text(f"other{n}")}
        for n, pair in enumerate(PAIRS)
    ]
    rows = {
        cosine: mined(Tables.at(f"{tables.uri}-{cosine}"), write(tmp_path, [*PAIRS, *like]), encoder,
                      negatives_per_query=40, last_rank=59, max_positive_share=None, like_query_cosine=cosine)
        for cosine in (None, 0.6)
    }  # fmt: skip
    theirs = {(pair["query"], other["positive"]) for pair, other in zip(PAIRS, like, strict=True)}
    drawn_of = {cosine: set(version.scan().select("query", "negative").collect().rows()) & theirs
                for cosine, version in rows.items()}  # fmt: skip

    assert len(drawn_of[None]) > 15
    assert not drawn_of[0.6]


@pytest.mark.slow
def test_many_queries_at_once_or_few_give_the_same(ray_cluster, tables, tmp_path, encoder, monkeypatch):
    path, found = write(tmp_path, PAIRS), []
    for at_once in (1 << 15, 7):
        monkeypatch.setattr(draw, "QUERIES_AT_ONCE", at_once)
        version = mined(
            Tables.at(f"{tables.uri}-{at_once}"), path, encoder, miners=("bm25", "dense"), draw="stratified"
        )
        found.append(version.scan().select("triplet_id", "miner", "miner_score").sort("triplet_id").collect())

    assert found[0].drop("miner_score").equals(found[1].drop("miner_score"))
    assert (found[0]["miner_score"] - found[1]["miner_score"]).abs().max() < 1e-5


@pytest.mark.slow
def test_texts_that_cannot_be_encoded_leave_the_others(ray_cluster, tables, tmp_path, tmp_path_factory):
    broken = poison(tiny_bi_encoder(tmp_path_factory.mktemp("broken") / "twin"))
    pairs = [*PAIRS, {"query": "poison", "positive": text("x")}, {"query": text("y"), "positive": "poison"}]
    rows = mined(tables, write(tmp_path, pairs), broken).scan().collect()

    assert rows.n_unique("query") == 32
    assert set(rows.filter(query="poison")["miner"]) == {"random"}
    assert set(rows.filter(negative="poison")["miner"]) <= {"random"}


def test_what_needs_a_bi_encoder_says_so(encoder):
    config, reader = MineConfig(miners=("dense",)), ScoreConfig(teacher=encoder)
    with pytest.raises(UserError, match=r"need a bi-encoder, found the cross_encoder .*mine\.encoder"):
        config.encoder_config(reader)

    named = config.model_copy(update={"encoder": "other"}).encoder_config(reader.model_copy(update={"max_tokens": 77}))
    assert (named.teacher, named.teacher_kind, named.max_tokens) == ("other", "bi_encoder", 77)
    assert MineConfig().encoder_config(reader) is None


def test_minings_of_before_are_known_again():
    """The fingerprint of a mining without dense negatives is what it was before there were any."""
    nothing = mine._Asked(MineConfig(), [], {}, [], [], {}, own_source=True)
    assert mine._fingerprint(nothing, None) == "f7ea67edb2f1"
