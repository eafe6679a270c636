"""Consistency: ranks as a full comparison gives them, pairs that go with their rank, and what is left."""

import json

import numpy as np
import polars as pl
import pytest

from pipelines import mine
from pipelines.intake.layouts import CheckedRow
from pipelines.mine import MineConfig
from pipelines.mining import dense
from pipelines.mining.consistency import (
    ConsistencyConfig,
    Gone,
    consistent,
    foreseen,
    foreseen_lines,
    in_share_of,
    positive_ranks,
    tell_gone,
)
from pipelines.mining.known import Pair, known_positives
from pipelines.mining.passages import Passages
from pipelines.scoring.config import ScoreConfig
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.texts.ids import text_id
from tests.clusters import connected
from tests.dense_indexes import index_of, unit
from tests.scorings import text
from tests.tiny import tiny_bi_encoder

WIDTH = 6
SEEDED = np.random.default_rng(3)
QUERIES = [f"query {n}" for n in range(9)]
PASSAGES = [f"passage {n}" for n in range(50)]


def pair(query, *positives, number=1, source=None, is_positive=True):
    return Pair(0, number, CheckedRow(query, list(positives), [], source, None, is_positive))


@pytest.mark.parametrize("sample", [1, 20, 49, 1000])
@pytest.mark.parametrize("at_once", [2, 1000])
def test_a_rank_counts_the_nearer_passages_of_the_sample_and_no_other_positive(tmp_path, monkeypatch, sample, at_once):
    monkeypatch.setattr(dense, "BLOCK", 7)
    monkeypatch.setattr(dense, "PAIRS_AT_ONCE", at_once)
    pairs = [pair(query, PASSAGES[n], *([PASSAGES[n + 20]] if n % 2 else [])) for n, query in enumerate(QUERIES)]
    known, passages = known_positives(pairs, []), Passages(PASSAGES, 100)
    vectors = {"query": unit(SEEDED.standard_normal((9, WIDTH))), "passage": unit(SEEDED.standard_normal((50, WIDTH)))}
    vectors["passage"][passages.texts.positions([PASSAGES[3]])] = np.nan
    ids = {"query": known.queries.ids.astype(str).tolist(), "passage": passages.texts.ids.astype(str).tolist()}
    index = index_of(Tables.at(str(tmp_path)), {kind: (ids[kind], vectors[kind]) for kind in ids})
    ranks = positive_ranks(known, passages, index, ConsistencyConfig(consistency_sample=sample))

    cosines, positives = vectors["query"] @ vectors["passage"].T, passages.positions(known.positives)
    for number in range(len(QUERIES)):
        others = [cosines[number, n] for n in range(min(sample, 50)) if n not in positives[number]]
        own = cosines[number, positives[number]]
        expected = [0 if np.isnan(one) else 1 + sum(other > one for other in others) for one in own]
        assert ranks[positives.start(number) : positives.stops[number]].tolist() == expected


def test_pairs_beyond_the_rank_go_and_of_several_positives_those_near_enough_stay():
    pairs = [
        pair("a", "1", "2"),
        pair("b", "3"),
        pair("c", "4", "5"),
        pair("d", "6"),
        pair("b", "9", is_positive=False),
    ]
    known = known_positives(pairs, [])
    ranked = {("a", "1"): 2, ("a", "2"): 3, ("b", "3"): 7, ("c", "4"): 9, ("c", "5"): 5, ("d", "6"): 0}
    by_id = {(number, text_id(positive).encode()): rank for (query, positive), rank in ranked.items()
             for number in known.queries.positions([query])}  # fmt: skip
    ranks = np.array([by_id[one] for one in zip(known.positives.owners(), known.positives.values, strict=True)])
    kept, gone, left = consistent(pairs, ranks, ConsistencyConfig(consistent_within=2), known)

    assert [(one.row.query, one.row.positives) for one in kept] == [("a", ["1"]), ("d", ["6"]), ("b", ["9"])]
    assert [(one.pair.row.query, one.rank) for one in gone] == [("b", 7), ("c", 5)]
    assert {query: left.positives[number].tolist() for number, query in enumerate(left.queries)} == {
        "a": [text_id("1").encode()], "b": [], "c": [], "d": [text_id("6").encode()]}  # fmt: skip
    assert len(left.forbidden[left.question_of[left.queries.positions(["c"])[0]]]) == 3


def test_the_sources_that_lose_most_are_told_first(capsys):
    pairs = [pair("q", "p", source=source) for source in ("good", "good", "bad", "bad", None)]
    gone = [(pairs[1], 30), (pairs[2], 5), (pairs[3], 8)]
    tell_gone([Gone(*one) for one in gone], pairs, {0: "file"}, 2)

    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("mine: bad: 2 of 2 pairs (100.0%) left out: their positive is not among the 2 nearest")
    assert second.startswith("mine: good: 1 of 2 pairs (50.0%)")


def test_shuffled_pairs_go_to_quarantine_with_their_rank_and_their_positives_stay_passages(
    ray_cluster, tmp_path, tmp_path_factory, capsys
):
    encoder = tiny_bi_encoder(tmp_path_factory.mktemp("encoder") / "twin")
    texts = [text(f"p{n}", 12) for n in range(60)]
    rows = [
        {"query": one, "positive": f"{one} {one.split()[0]}", "external_id": f"e{n}", "source": "pairs"}
        for n, one in enumerate(texts)
    ]
    for n in range(12):  # among each other
        rows[n]["positive"] = f"{texts[(n + 5) % 12]} {texts[(n + 5) % 12].split()[0]}"
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = MineConfig(
        consistent_within=2, first_rank=1, negatives_per_query=3, random_negatives=0, max_bad_share=0.01
    )
    score = ScoreConfig(teacher=encoder, teacher_kind="bi_encoder", max_tokens=64, precision="float32", max_actors=1)
    tables, how = Tables.at(str(tmp_path / "tables")), {"encoder": config.encoder_config(score), "connect": connected}
    foretold = mine.foresee(tables, [str(path)], config, 1.0, **how)
    assert tables.names() == ["teacher_vectors"]
    vectors = tables.latest("teacher_vectors")
    triplets = mine.run(tables, [str(path)], config, **how)

    assert tables.latest("teacher_vectors") == vectors
    gone = tables.latest("quarantined_rows").scan().collect()
    asked = [json.loads(raw)["query"] for raw in gone["raw"]]
    assert set(asked) >= set(texts[:12])
    assert len(asked) <= 16
    assert set(gone["named_source"]) == {"pairs"}
    assert set(gone["reasons"].explode()) == {"positive_not_among_nearest"}
    assert gone["rank"].min() > 2
    assert set(triplets.scan().select("query").collect()["query"]) == set(texts) - set(asked)
    told = capsys.readouterr().err
    assert "mine: pairs: 1" in told
    counts = tables.latest("ingested_files").scan().select("rows", "quarantined").collect()
    assert counts.rows() == [(60, len(asked))]
    assert pl.DataFrame(gone).select("source_row").n_unique() == len(asked)
    assert "stays, also of pairs that are left out now" not in told
    mine.run(tables, [str(path)], config.model_copy(update={"consistent_within": 1}), **how)
    assert "mine: what triplets@0 has stays, also of pairs that are left out now" in capsys.readouterr().err
    assert foretold.rows() == [("pairs", 60, 60, *[pytest.approx(len(gone) / 60)] * 3)]


def test_a_share_of_the_queries_with_all_their_pairs_tells_of_the_whole():
    pairs = [pair(f"query {n % 500}", f"passage {n}", number=n, source="ab"[n % 2]) for n in range(1_000)]
    pairs += [pair("query 0", "no", number=1_000, is_positive=False), pair("alone", "p", number=1_001, source="c")]
    known = known_positives(pairs, [])
    drawn, of_share = in_share_of(pairs, known, 0.2)
    asked = {one.row.query for one in drawn}

    assert list(drawn) == [one for one in pairs if one.row.is_positive and one.row.query in asked]
    assert set(of_share.queries) == asked
    assert 50 < len(asked) < 150
    assert list(in_share_of(pairs, known, 1.0)[0]) == [one for one in pairs if one.row.is_positive]
    gone = [Gone(one, 9) for one in drawn if one.row.source == "a" and one.source_row % 4 == 0]
    table = foreseen(pairs, drawn, gone, {0: "file"}).to_dicts()
    assert [row["source"] for row in table] == ["a", "b", "c"]
    assert [row["pairs"] for row in table] == [500, 500, 1]
    of_a, of_b, of_c = table
    num_a = sum(one.row.source == "a" for one in drawn)
    assert (of_a["drawn"], of_a["left_out"]) == (num_a, pytest.approx(len(gone) / num_a))
    assert of_a["left_out_low"] < of_a["left_out"] < of_a["left_out_high"]
    assert of_a["left_out_low"] < 0.5 < of_a["left_out_high"]  # as all pairs of the source would say
    assert (of_b["left_out"], of_b["left_out_low"]) == (0, pytest.approx(0))
    assert 0 < of_b["left_out_high"] < 0.1
    assert (of_c["drawn"], of_c["left_out"]) == (0, None)
    assert "not known" in foreseen_lines(pl.DataFrame(table))[-1]
    assert "a" in foreseen_lines(pl.DataFrame(table))[1]


@pytest.mark.parametrize(("share", "asked"), [(None, 300), (1.0, 300), (0.1, 30)])
def test_of_few_queries_all_are_asked_unless_a_share_is_given(share, asked):
    pairs = [pair(f"query {n}", f"passage {n}", number=n) for n in range(300)]
    drawn, of_share = in_share_of(pairs, known_positives(pairs, []), share)

    assert len(drawn) == len(of_share.queries) == pytest.approx(asked, rel=0.3 if asked < 300 else 0)


@pytest.mark.parametrize(("queries", "asked"), [(4_000, 1_000), (150_000, 1_500)])
def test_of_many_queries_about_1000_are_asked_or_1_percent_if_that_is_more(queries, asked):
    pairs = [pair(f"query {n}", "passage", number=n) for n in range(queries)]

    assert len(in_share_of(pairs, known_positives(pairs, []), None)[0]) == pytest.approx(asked, rel=0.1)


def test_a_share_without_a_query_is_refused_before_the_encoder_is_looked_for(tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"query": "query", "positive": "passage"}\n')
    nowhere = ScoreConfig(teacher=str(tmp_path / "nowhere"), teacher_kind="bi_encoder")
    asked = Tables.at(str(tmp_path / "tables")), [str(tmp_path / "pairs.jsonl")], MineConfig(consistent_within=1)
    with pytest.raises(UserError, match=r"a share of 1e-09 of 1 queries has none; give a larger one: --share"):
        mine.foresee(*asked, 1e-9, encoder=nowhere, connect=connected)
