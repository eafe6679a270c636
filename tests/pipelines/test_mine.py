"""Mined negatives come from the stated ranks, are never a known positive, and do not depend on the order of rows."""

import json
from collections import Counter

import pytest
from pydantic import ValidationError

from pipelines import mine
from pipelines.mine import MineConfig
from pipelines.mining.inputs import Passages
from pipelines.search.bm25 import Bm25Index
from pipelines.stage.errors import UserError
from pipelines.storage import Tables

NUMBERS = "zero one two three four five six seven eight nine".split()
PAIRS = [{"query": f"fish {NUMBERS[i % 10]}", "positive": f"fish swim {NUMBERS[i % 10]} lake{i}"} for i in range(30)]


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


def write(tmp_path, rows, name="pairs.jsonl"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def mined(tables, *columns):
    return tables.latest("triplets").scan().select(columns).collect().rows()


def small(**values):
    return MineConfig(**{"first_rank": 1, "last_rank": 30, **values})


def test_each_pair_gets_its_negatives_and_never_a_known_positive(tables, tmp_path):
    mine.run(tables, [write(tmp_path, PAIRS)], small(negatives_per_query=8, random_negatives=3))
    positives = {(pair["query"], pair["positive"]) for pair in PAIRS}
    rows = mined(tables, "query", "positive", "negative")

    assert len(rows) == len(set(rows)) == 30 * 8
    assert {(query, negative) for query, _, negative in rows} & positives == set()
    assert {(query, positive) for query, positive, _ in rows} == positives


def test_a_known_positive_with_other_space_around_and_the_query_itself_are_no_negatives(tables, tmp_path):
    passages = write(
        tmp_path, [{"text": text} for text in (" fish swim\n", "fish", "fish fly", "birds")], "passages.jsonl"
    )
    pairs = write(tmp_path, [{"query": "fish", "positive": "fish swim"}])
    mine.run(tables, [pairs], small(), passages=passages)

    assert sorted(mined(tables, "negative")) == [("birds",), ("fish fly",)]


def test_negatives_come_from_the_stated_ranks_and_random_ones_stand_in(tables, tmp_path):
    config = small(first_rank=4, last_rank=9, negatives_per_query=5, random_negatives=0)
    mine.run(tables, [write(tmp_path, PAIRS)], config)
    passages = Passages((pair["positive"] for pair in PAIRS), 100)
    ranking = Bm25Index(passages.texts).top(["fish seven"], 9).positions[0]
    negatives = [negative for query, negative in mined(tables, "query", "negative") if query == "fish seven"]

    assert set(negatives) <= {passages.texts[position] for position in ranking[3:]}
    assert len(negatives) == 3 * 5


def test_a_mined_row_names_its_miner_and_the_rank_that_it_gave_among_all_passages(tables, tmp_path):
    config = small(first_rank=4, last_rank=9, negatives_per_query=5, random_negatives=2)
    mine.run(tables, [write(tmp_path, PAIRS)], config)
    passages = Passages((pair["positive"] for pair in PAIRS), 100)
    rows = mined(tables, "query", "negative", "miner", "rank")
    best = {query: Bm25Index(passages.texts).top([query], 9).positions[0] for query in {row[0] for row in rows}}

    assert Counter(miner for _, _, miner, _ in rows) == {"bm25": 30 * 3, "random": 30 * 2}
    assert {rank for *_, miner, rank in rows if miner == "bm25"} == {4, 5, 6, 7, 8, 9}
    for query, negative, miner, rank in rows:
        assert rank is None if miner == "random" else negative == passages.texts[best[query][rank - 1]]


def test_random_negatives_fill_up_where_the_ranks_give_too_few_and_it_is_said(tables, tmp_path, capsys):
    unread = [{"query": "수영하는 물고기", "positive": f"fish swim sea{i}", "source": "sea"} for i in range(2)]
    mine.run(tables, [write(tmp_path, [*unread, *PAIRS])], MineConfig(first_rank=500, last_rank=600))

    assert len(mined(tables, "triplet_id")) == 32 * 4
    assert [
        line for line in capsys.readouterr().err.splitlines() if "at random" in line or "share no word" in line
    ] == [
        "mine: sea: 1 of 1 queries share no word with any passage (e.g. 수영하는 물고기): their negatives are random, "
        "not hard",
        "mine: negatives drawn at random, as too few passages have rank 500 to 600 for their queries: 30 of 40 of "
        "pairs, 3 of 4 of sea; lower mine.first_rank or give more passages",
    ]


def test_the_same_pairs_in_another_order_get_the_same_negatives_and_another_seed_gets_others(tmp_path):
    ids = []
    for name, rows, seed in [("a", PAIRS, 0), ("b", PAIRS[::-1], 0), ("c", PAIRS, 1)]:
        tables = Tables.at(str(tmp_path / name))
        mine.run(tables, [write(tmp_path, rows, f"{name}.jsonl")], small(seed=seed))
        ids.append(mined(tables, "triplet_id"))

    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


def test_the_same_again_adds_nothing_and_another_config_adds_its_triplets(tables, tmp_path):
    path = write(tmp_path, PAIRS)
    version = mine.run(tables, [path], small())

    assert mine.run(tables, [path], small()) == version
    assert mine.run(tables, [path], small(seed=1)).version == version.version + 1
    assert len(tables.latest("ingested_files").scan().collect()) == 2


def test_bad_pairs_are_quarantined_and_the_counts_add_up(tables, tmp_path):
    path = write(tmp_path, [*PAIRS, PAIRS[0], {"query": "q", "positive": ""}])
    mine.run(tables, [path], small())
    counts = tables.latest("ingested_files").scan().select("rows", "triplets", "duplicates", "quarantined").collect()

    assert counts.rows() == [(32, 120, 4, 1)]
    assert tables.latest("quarantined_rows").scan().collect()["reasons"].to_list() == [["positive_blank"]]


def test_a_pair_for_which_there_is_no_negative_is_refused_or_quarantined(tables, tmp_path):
    path = write(tmp_path, [{"query": "q", "positive": "only"}])

    with pytest.raises(UserError, match="no_negative_found in 1"):
        mine.run(tables, [path], MineConfig())
    assert tables.latest("triplets") is None


def test_the_column_source_is_kept_per_pair_and_columns_can_be_named(tables, tmp_path):
    rows = [{"question": p["query"], "answer": p["positive"], "source": f"s{i % 2}"} for i, p in enumerate(PAIRS)]
    mine.run(tables, [write(tmp_path, rows)], small(), columns={"query": "question", "positive": "answer"})

    assert set(mined(tables, "query", "source")) == {(row["question"], row["source"]) for row in rows}


def beir(tmp_path, **qrels):
    corpus = [{"_id": f"d{i}", "title": "T", "text": f"fish {word}"} for i, word in enumerate([*NUMBERS, ""])]
    write(tmp_path, corpus, "zoo/corpus.jsonl")
    write(tmp_path, [{"_id": "q1", "text": "fish one"}, {"_id": "q2", "text": "fish two"}], "zoo/queries.jsonl")
    for split, rows in qrels.items():
        (tmp_path / "zoo/qrels").mkdir(exist_ok=True)
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(row) for row in rows)]
        (tmp_path / f"zoo/qrels/{split}.tsv").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "zoo")


def test_a_beir_folder_is_mined_by_its_train_judgements_and_knows_all_of_them(tables, tmp_path):
    folder = beir(tmp_path, train=[("q1", "d1", "1"), ("q1", "d5", "0")], test=[("q1", "d2", "2"), ("q2", "d2", "1")])
    mine.run(tables, [folder], small(negatives_per_query=11))
    rows = mined(tables, "query", "positive", "negative", "source", "source_file", "source_row")

    assert {row[:2] + row[3:] for row in rows} == {("fish one", "T fish one", "zoo", f"{folder}/qrels/train.tsv", 1)}
    assert len(rows) == 9
    assert "T fish two" not in {row[2] for row in rows}


def test_a_beir_folder_without_train_judgements_warns_that_it_cannot_be_evaluated_on(tables, tmp_path, capsys):
    mine.run(tables, [beir(tmp_path, test=[("q1", "d1", "1")])], small())

    assert "don't evaluate on it" in capsys.readouterr().err


def test_passages_without_a_text_column_or_too_many_of_them_are_refused(tables, tmp_path):
    pairs = write(tmp_path, PAIRS)

    with pytest.raises(UserError, match="expected text or passage"):
        mine.run(tables, [pairs], small(), passages=pairs)
    with pytest.raises(UserError, match=r"more than 29 distinct passages.*mine.max_passages"):
        mine.run(tables, [pairs], small(max_passages=29))
    assert tables.latest("triplets") is None


def test_what_is_held_in_memory_is_printed(tables, tmp_path, capsys):
    mine.run(tables, [write(tmp_path, PAIRS)], small())

    assert "holds 30 pairs and 30 passages in memory" in capsys.readouterr().err


@pytest.mark.parametrize("values", [{"first_rank": 51}, {"random_negatives": 5}, {"negatives_per_query": 0}])
def test_a_config_that_cannot_be_met_is_refused(values):
    with pytest.raises(ValidationError):
        MineConfig(**values)
