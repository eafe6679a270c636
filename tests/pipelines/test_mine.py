"""Mined negatives come from the stated ranks, are never a known positive, and do not depend on the order of rows."""

import json
import random
from collections import Counter

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from pipelines import mine
from pipelines.mine import MineConfig
from pipelines.mining.inputs import is_mined
from pipelines.mining.passages import Passages
from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.pair_encoder import PairEncoder
from pipelines.search.bm25 import Bm25Index
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version
from pipelines.texts.ids import text_id
from pipelines.texts.near_duplicates import share
from schemas import TeacherVectors
from tests.clusters import no_cluster
from tests.dense_indexes import unit
from tests.tiny import tiny_bi_encoder

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


def test_passages_that_are_nearly_the_same_count_as_one_and_are_told_by_source(tables, tmp_path, capsys):
    pages = {name: f"fish {name} " + " ".join(f"{name}{number}" for number in range(60)) for name in ("cod", "eel")}
    edited = {name: page.replace(f"{name}30", "edited") for name, page in pages.items()}
    pairs = [{"query": f"fish {name}", "positive": page, "source": name} for name, page in pages.items()]
    pairs += [{"query": "fish edited", "positive": edited["cod"], "source": "wiki"}]
    further = write(tmp_path, [{"text": edited["eel"]}, {"text": "fish swim"}, {"text": "birds"}], "passages.jsonl")
    pairs = write(tmp_path, pairs)

    mine.run(tables, [pairs], small(negatives_per_query=9), passages=further)

    cods, eels = ({texts[name] for texts in (pages, edited)} for name in ("cod", "eel"))
    for query, own, others in [("fish cod", cods, eels), ("fish edited", cods, eels), ("fish eel", eels, cods)]:
        negatives = [negative for asked, negative in mined(tables, "query", "negative") if asked == query]
        assert len(negatives) == 3
        assert set(negatives) - others == {"fish swim", "birds"}
        assert not own & set(negatives)
    told = capsys.readouterr().err
    assert "mine: 2 of 6 passages are nearly the same as another and count as one with it" in told
    count = {name: f"1 of the 1 of {name}" in told for name in ("cod", "eel", "wiki")}
    assert count["cod"] != count["wiki"]  # whose id comes first stands for both


def test_no_copy_of_the_positive_is_drawn_however_many_there_are(tables, tmp_path):
    words = " ".join(f"word{number}" for number in range(25))
    pairs = [{"query": f"word{number} of them", "positive": f"{words} {number}"} for number in range(40)]
    chain = [f"start{number} {words[30:]} end{number // 2}" for number in range(9)]  # each next to two of them
    further = write(tmp_path, [{"text": text} for text in ("birds", "word1 fly", *chain)], "passages.jsonl")

    mine.run(tables, [write(tmp_path, pairs)], small(negatives_per_query=8), passages=further)

    rows = mined(tables, "positive", "negative")
    assert max(share(*row) for row in rows) < 0.9
    assert {negative for _, negative in rows} >= {"birds", "word1 fly"}


def test_a_further_passage_that_is_the_query_below_a_title_is_no_negative(tables, tmp_path):
    texts = [{"title": "T", "text": "Fish!"}, {"title": "T", "text": "birds"}, {"title": "Fish", "text": "fly"}]
    pairs = write(tmp_path, [{"query": "fish", "positive": "fish swim"}])
    mine.run(tables, [pairs], small(), passages=write(tmp_path, texts, "passages.jsonl"))

    assert sorted(mined(tables, "negative")) == [("Fish fly",), ("T birds",)]


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


def test_a_raised_limit_takes_the_rows_that_it_left_out_and_they_are_not_lost_any_more(tables, tmp_path):
    path = write(tmp_path, [*PAIRS, {"anchor": "fish", "positive": "fish " * 9, "source": "late"}])
    mine.run(tables, [path], small(max_text_chars=30))
    assert tables.latest("quarantined_rows").num_rows() == 1
    mine.run(tables, [path], small())

    assert tables.latest("quarantined_rows").num_rows() == 0
    assert {row for row in mined(tables, "query", "source") if row[0] == "fish"} == {("fish", "late")}


def test_each_passage_row_is_read_by_its_own_keys(tables, tmp_path):
    rows = [
        *({"id": i, "title": f"title {i}"} for i in range(3)),
        *({"text": f"t{i}"} for i in range(30)),
        {"passage": "x"},
    ]
    passages = write(tmp_path, rows, "passages.jsonl")
    mine.run(tables, [write(tmp_path, PAIRS)], small(negatives_per_query=40, last_rank=90), passages=passages)

    assert {"t29", "x"} <= {negative for (negative,) in mined(tables, "negative")}


def test_a_pair_for_which_there_is_no_negative_is_refused_or_quarantined(tables, tmp_path):
    path = write(tmp_path, [{"query": "q", "positive": "only", "source": "s"}])

    with pytest.raises(UserError, match="no_negative_found in 1"):
        mine.run(tables, [path], MineConfig())
    assert tables.latest("triplets") is None
    with pytest.raises(UserError, match="no row of the input could become a triplet"):
        mine.run(tables, [path], MineConfig(max_bad_share=1))
    left_out = tables.latest("quarantined_rows").scan().select("reasons", "named_source").collect()
    assert left_out.rows() == [(["no_negative_found"], "s")]


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


def test_a_querys_own_document_is_never_its_negative(tables, tmp_path, capsys):
    write(tmp_path, [{"_id": "arg-1", "title": "T", "text": "Fish swim"}, {"_id": "a", "text": "fish, SWIM!"},
                     {"_id": "arg-2", "text": "cats"}, {"_id": "b", "title": "T", "text": "fish swim"},
                     {"_id": "c", "text": "fish"}, {"_id": "d", "text": "fly"}], "own/corpus.jsonl")  # fmt: skip
    queries = [{"_id": "arg-1", "text": "fish swim"}, {"_id": "arg-2", "text": "meow"}]
    write(tmp_path, queries, "own/queries.jsonl")
    (tmp_path / "own/qrels").mkdir()
    (tmp_path / "own/qrels/train.tsv").write_text("arg-1\tc\t1\narg-2\tc\t1\n")
    mine.run(tables, [str(tmp_path / "own")], small(negatives_per_query=9))
    rows = mined(tables, "query", "negative")

    assert "2 of 2 queries stand in the corpus themselves" in capsys.readouterr().err
    assert {negative for query, negative in rows if query == "fish swim"} == {"cats", "fly"}
    assert {negative.lower() for query, negative in rows if query == "meow"} == {"t fish swim", "fish, swim!", "fly"}


def test_a_positive_of_any_typing_variant_in_any_file_is_one_of_all(tables, tmp_path):
    folder = beir(tmp_path, train=[("q1", "d1", "1")], test=[("q2", "d2", "1")])
    pairs = [{"query": "Fish\u200b TWO?", "positive": "fish swim"}, {"query": "FISH one", "positive": "fish\u00ad fly"}]
    variant = [{"query": "fish  two!", "positive": "Fish SWIM"}]
    mine.run(tables, [folder, write(tmp_path, pairs), write(tmp_path, variant, "more.jsonl")],
             small(negatives_per_query=20))  # fmt: skip
    negatives = {}
    for query, negative in mined(tables, "query", "negative"):
        negatives.setdefault(query, set()).add(negative)

    assert set(negatives) == {"fish one", "Fish\u200b TWO?", "FISH one", "fish  two!"}
    assert negatives["FISH one"].isdisjoint({"T fish one", "fish\u00ad fly"})
    assert negatives["fish one"].isdisjoint({"T fish one", "fish\u00ad fly"})
    for query in ("Fish\u200b TWO?", "fish  two!"):
        assert negatives[query].isdisjoint({"fish swim", "Fish SWIM", "T fish two"})


@pytest.mark.parametrize(
    ("column", "zero", "one"),
    [
        ("label", 0, 1),
        ("Label", "0", "1"),
        ("score", 0.0, 1.0),
        ("is_relevant", False, True),
        ("gold label", "False", "TRUE"),
    ],
)
def test_a_pair_labelled_0_is_a_known_negative_of_its_question(tables, tmp_path, capsys, column, zero, one):
    labelled = [
        {"query": "fish", "positive": "fish swim", column: one},
        {"query": "fish", "positive": "cats purr", column: zero},
        {"query": "fish", "positive": "Cats purr", column: zero},  # the same
        {"query": "fish", "positive": "Fish swim.", column: zero},  # its positive
        {"query": "dogs", "positive": "dogs bark", column: zero},  # no positive of that question
    ]
    mine.run(tables, [write(tmp_path, labelled)], small(negatives_per_query=1, random_negatives=1))

    assert sorted(mined(tables, "query", "positive", "negative", "miner")) == [
        ("fish", "fish swim", "Cats purr", "given"),  # of two that are the same the first by code point
        ("fish", "fish swim", "dogs bark", "random"),
    ]
    assert "4 labelled 0: 1 are given negatives now, 1 are of queries without a positive, 2 " in (
        err := capsys.readouterr().err
    )
    assert "is read as a label: 0 makes a pair a known negative; to ignore it: --columns label=none" in err


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([4.2, 0.0, 1.0], "label_not_0_or_1 in 1 .*make 0 and 1 of a grade; to take all pairs: --columns label=none"),
        ([0.91, 0.13, 0.5], "label_not_0_or_1 in 3"),
        ([1, 0, 2], "label_not_0_or_1 in 1"),
        ([1, -1, 1], "label_not_0_or_1 in 1"),
        (["entailment", "neutral", "contradiction"], "label_not_0_or_1 in 3"),
        ([[1], [0], 1], "label_not_0_or_1 in 2"),
        ([1, None, 0], "label_missing in 1"),
    ],
)
def test_other_labels_are_refused_by_name_unless_they_are_to_be_ignored(tables, tmp_path, values, said):
    rows = [{**pair, "similarity": value} for pair, value in zip(PAIRS, values, strict=False)]
    path = write(tmp_path, rows)
    with pytest.raises(UserError, match=said):
        mine.run(tables, [path], small())
    assert tables.latest("triplets") is None

    mine.run(tables, [path], small(), columns={"label": "none"})
    assert len(set(mined(tables, "positive"))) == 3


def test_a_label_of_any_name_can_be_told_and_pairs_that_are_all_negative_are_refused(tables, tmp_path):
    rows = [{**pair, "verdict": 0} for pair in PAIRS]
    with pytest.raises(UserError, match="no row of the input could become a triplet"):
        mine.run(tables, [write(tmp_path, rows)], small(), columns={"label": "verdict"})
    with pytest.raises(UserError, match="no column opinion"):
        mine.run(tables, [write(tmp_path, rows)], small(), columns={"label": "opinion"})


@pytest.mark.parametrize("names", [("train.jsonl", "test.tsv"), ("train.txt.gz", "dev.csv")])
def test_train_judgements_are_mined_in_any_form(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()

    assert [is_mined(str(tmp_path / name)) for name in names] == [True, False]


def test_passages_without_a_text_column_or_too_many_of_them_are_refused(tables, tmp_path):
    pairs = write(tmp_path, PAIRS)

    with pytest.raises(UserError, match="expected text or passage"):
        mine.run(tables, [pairs], small(), passages=pairs)
    with pytest.raises(UserError, match=r"more than 29 distinct passages.*mine.max_passages"):
        mine.run(tables, [pairs], small(max_passages=29))
    assert tables.latest("triplets") is None


def test_what_is_held_in_memory_is_printed(tables, tmp_path, capsys):
    mine.run(tables, [write(tmp_path, PAIRS)], small())

    assert "mine: 30 pairs, 30 passages of 0 MB" in capsys.readouterr().err


@pytest.mark.parametrize("values", [{"first_rank": 51}, {"random_negatives": 5}, {"negatives_per_query": 0}])
def test_a_config_that_cannot_be_met_is_refused(values):
    with pytest.raises(ValidationError):
        MineConfig(**values)


def vector(words):
    """Near to that of a text whose first words are the same."""
    parts = [
        np.random.default_rng(int(text_id(part)[:15], 16)).standard_normal(24)
        for part in (words.split()[0], words.split("!")[0], words)
    ]
    return unit(np.array([[1.5, 1.0, 0.3]]) @ np.array(parts))[0]


def made_up():
    """Pairs, labelled ones among them, of topics in common; and passages, edited copies among them."""
    chooser = random.Random(1)
    texts = [
        f"topic{chooser.randrange(9)} " + " ".join(f"w{chooser.randrange(200)}" for _ in range(length))
        for length in [4, 30] * 60
    ]
    copies = [text.replace(text.split()[7], "edited") for text in texts[1::4]] + [f"{text}!" for text in texts[:9]]
    pairs = []
    for number, text in enumerate(chooser.sample(texts, 40)):
        others = [one for one in texts if one.split()[0] == text.split()[0]]
        pair = {"query": " ".join(text.split()[:3]), "positive": chooser.choice(others), "source": f"s{number % 3}"}
        pairs += [pair | {"label": 1}, pair | {"positive": chooser.choice(texts), "label": number % 2}]
        pairs += [pair | {"query": pair["query"].upper(), "label": 1}] if number % 5 == 0 else []
    return pairs, [{"text": text} for text in [*texts, *copies]]


def test_what_is_drawn_of_given_texts_and_vectors_stays_the_same(tables, tmp_path, tmp_path_factory):
    """The digest is of what was drawn when all texts were held in memory."""
    pairs, passages = made_up()
    score = ScoreConfig(
        teacher=tiny_bi_encoder(tmp_path_factory.mktemp("encoder") / "twin"),
        teacher_kind="bi_encoder",
        precision="float32",
    )
    config = small(miners=("bm25", "dense"), consistent_within=40, negatives_per_query=6, max_bad_share=1)
    texts = {("query", pair["query"]) for pair in pairs} | {("passage", pair["positive"]) for pair in pairs}
    texts |= {("passage", passage["text"]) for passage in passages}
    rows = [
        {"text_id": text_id(text), "teacher": PairEncoder.of(tables, score, "", no_cluster).name, "kind": kind,
         "vector": vector(text).tolist(), "tokens_cut": 0, "text": None}
        for kind, text in texts
    ]  # fmt: skip
    with new_version(tables, TeacherVectors, Lineage("score", [], Config())) as version:
        version.write(pl.DataFrame(rows, schema=TeacherVectors.polars_schema()).sort("text_id", "kind"))
    files = write(tmp_path, pairs), write(tmp_path, passages, "passages.jsonl")
    mine.run(tables, [files[0]], config, passages=files[1], encoder=config.encoder_config(score), connect=no_cluster)

    drawn = mined(tables, "triplet_id", "query", "negative", "miner", "rank", "source", "source_row")
    left_out = tables.latest("quarantined_rows").scan().select("source_row", "reasons", "rank").collect().rows()
    assert len(drawn) > 200
    assert len(left_out) > 20
    assert text_id(repr([drawn, left_out])) == "011c071d04fc693099062c59e9368c77"
