"""The test split of a real curation, relevance as ingested, samples, BEIR folders, and the overlap with training."""

from itertools import count, islice

import polars as pl
import pytest

from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.evaluation.evaluation_sets import EvaluationSet, beir_set, count_overlap, held_out_set
from pipelines.storage import Tables
from pipelines.texts.ids import text_id
from tests.rows import split_of_text
from tests.scored_versions import scored_rows, write_scored, write_triplets

HALF = CurateConfig(test_share=0.5, dev_share=0.0, max_drop_share=1.0)


def query_in(split: str, number: int = 0) -> str:
    """The number-th made-up query that falls into a split."""
    names = (f"question {index}" for index in count())
    return next(islice((name for name in names if split_of_text(name, 0.0, 0.5) == split), number, None))


def curated(tmp_path, rows, config=HALF):
    scored = scored_rows(rows)
    tables = Tables.at(str(tmp_path / "tables"))
    return curate.run(write_scored(write_triplets(tables, scored), scored), config).version


def texts_of(evaluation_set: EvaluationSet) -> dict[str, set[str]]:
    """Query text -> texts of its relevant passages."""
    return {
        evaluation_set.queries[query_id]: {evaluation_set.corpus[passage_id] for passage_id in grades}
        for query_id, grades in evaluation_set.qrels.items()
    }


def test_relevance_is_as_ingested_whatever_curation_thought_of_it(tmp_path):
    swapped, dropped, kept, trained = *(query_in("test", number) for number in range(3)), query_in("train")
    version = curated(
        tmp_path,
        [
            (swapped, "what was ingested", -5.0, "what the teacher likes", 5.0),
            (dropped, "weak", 1.0, "nearly as weak", 0.9),
            (kept, "first", 5.0, "far", -5.0),
            (kept, "second", 5.0, "far", -5.0),
            (trained, "known", 5.0, "unknown", -5.0),
        ],
    )

    held_out = held_out_set(version, None, None)

    assert held_out.name == f"{version}/test"
    assert texts_of(held_out) == {swapped: {"what was ingested"}, dropped: {"weak"}, kept: {"first", "second"}}
    passages = ["what was ingested", "what the teacher likes", "weak", "nearly as weak", "first", "second", "far"]
    assert held_out.corpus == {text_id(text): text for text in sorted([*passages, "known", "unknown"], key=text_id)}
    assert list(held_out.queries) == sorted(held_out.queries)


def test_queries_that_leak_into_training_are_not_asked(tmp_path):
    leaking, clean = query_in("test", 0), query_in("test", 1)
    version = curated(
        tmp_path,
        [
            (query_in("train"), "shared", 5.0, "other", -5.0),
            (leaking, "shared", 5.0, "other", -5.0),
            (clean, "its own", 5.0, "other", -5.0),
        ],
    )

    assert texts_of(held_out_set(version, None, None)) == {clean: {"its own"}}


def test_the_dropped_rows_of_a_later_curation_do_not_count(tmp_path):
    rows = [(query_in("train"), "shared", 5.0, "other", -5.0), (query_in("test"), "its own", 5.0, "other", -5.0)]
    first = curated(tmp_path, rows)
    before = held_out_set(first, None, None)
    second = curated(tmp_path, [(query_in("test"), "shared", 5.0, "other", -5.0)])

    assert held_out_set(first, None, None) == before
    assert texts_of(before) == {query_in("test"): {"its own"}}
    assert held_out_set(second, None, None) is None


def test_queries_that_were_not_scored_are_not_asked(tmp_path):
    scored = scored_rows([(query_in("test", number), f"p{number}", 5.0, "n", -5.0) for number in range(4)])
    triplets = write_triplets(Tables.at(str(tmp_path / "tables")), scored)
    version = curate.run(write_scored(triplets, scored.head(2), share=0.5), HALF).version

    assert texts_of(held_out_set(version, None, None)) == {query_in("test", n): {f"p{n}"} for n in range(2)}
    assert len(held_out_set(version, None, None).corpus) == 5


def test_a_version_without_test_queries_has_no_set(tmp_path):
    version = curated(tmp_path, [(query_in("train"), "p", 5.0, "n", -5.0)])

    assert held_out_set(version, None, None) is None


def test_a_sample_is_named_as_one_keeps_what_is_relevant_and_is_the_same_each_time(tmp_path):
    rows = [(query_in("test", number), f"p{number}", 5.0, f"n{number}", -5.0) for number in range(20)]
    version = curated(tmp_path, rows)

    whole = held_out_set(version, 20, 40)
    sample = held_out_set(version, 5, 12)

    assert whole.name == f"{version}/test"
    assert sample.name == f"{version}/test:5q,12p"
    assert sample == held_out_set(version, 5, 12)
    assert list(sample.queries) == sorted(whole.queries)[:5]
    assert (len(sample.corpus), len(whole.corpus)) == (12, 40)
    assert all(passage_id in sample.corpus for grades in sample.qrels.values() for passage_id in grades)


def test_relevant_passages_are_in_even_beyond_the_maximum(tmp_path):
    rows = [(query_in("test", number), f"p{number}", 5.0, f"n{number}", -5.0) for number in range(4)]

    sample = held_out_set(curated(tmp_path, rows), None, 2)

    assert sorted(sample.corpus.values()) == ["p0", "p1", "p2", "p3"]


def test_a_beir_folder_is_taken_whole_in_the_order_of_its_ids(tmp_path):
    (tmp_path / "pets" / "qrels").mkdir(parents=True)
    (tmp_path / "pets" / "corpus.jsonl").write_text('{"_id": "b", "text": "dog"}\n{"_id": "a", "text": "cat"}\n')
    (tmp_path / "pets" / "queries.jsonl").write_text('{"_id": "y", "text": "purrs"}\n{"_id": "x", "text": "idle"}\n')
    (tmp_path / "pets" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\ny\ta\t2\n")

    pets = beir_set(tmp_path / "pets")

    assert pets.name.startswith("beir/pets@")
    assert (pets.queries, list(pets.corpus.items())) == ({"y": "purrs"}, [("a", "cat"), ("b", "dog")])
    assert pets.qrels == {"y": {"a": 2}}


def test_what_is_the_query_itself_is_its_own_unless_it_is_relevant(tmp_path, capsys):
    first, second = query_in("test", 0), query_in("test", 1)
    rows = [(first, "p", 5.0, f"{first.upper()}?", -5.0), (second, f"{second}!", 5.0, "n", -5.0)]

    held_out = held_out_set(curated(tmp_path, rows), None, None)

    assert held_out.own == {text_id(first): {text_id(f"{first.upper()}?")}}
    assert "1 of 2 queries stand in the corpus themselves, as 1 passages" in capsys.readouterr().err


def test_arguanas_own_documents_are_found_and_told(tmp_path, capsys):
    (tmp_path / "pets" / "qrels").mkdir(parents=True)
    (tmp_path / "pets" / "corpus.jsonl").write_text(
        '{"_id": "a-con", "title": "Cats", "text": "Cats purr."}\n{"_id": "a-pro", "title": "Cats", "text": "No."}\n'
    )
    (tmp_path / "pets" / "queries.jsonl").write_text('{"_id": "a-con", "text": "Cats purr."}\n')
    (tmp_path / "pets" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\na-con\ta-pro\t1\n")

    assert beir_set(tmp_path / "pets").own == {"a-con": {"a-con"}}
    assert "1 of 1 queries stand in the corpus themselves" in capsys.readouterr().err


def test_overlap_counts_texts_of_the_train_split_exactly_and_nearly(tmp_path):
    train, test = query_in("train"), query_in("test")
    version = curated(tmp_path, [(train, "A cat.", 5.0, "A dog.", -5.0), (test, "A fish.", 5.0, "A bird.", -5.0)])
    corpus = {"1": "A cat.", "2": "a  DOG", "3": "A fish.", "4": "a cat!"}
    mine = EvaluationSet("mine", {"q": train.upper(), "r": "new"}, corpus, {})
    theirs = EvaluationSet("theirs", {"q": "new"}, {"1": "A bird."}, {})

    assert count_overlap([mine, theirs], version).rows() == [
        ("mine", "query", 2, 0, 1),
        ("mine", "passage", 4, 1, 3),
        ("theirs", "query", 1, 0, 0),
        ("theirs", "passage", 1, 0, 0),
    ]
    assert count_overlap([mine], version).schema["near"] == pl.Int64


@pytest.mark.parametrize("max_queries", [1, 3])
def test_a_sample_is_a_part_of_a_larger_one(tmp_path, max_queries):
    rows = [(query_in("test", number), f"p{number}", 5.0, f"n{number}", -5.0) for number in range(6)]
    version = curated(tmp_path, rows)

    assert held_out_set(version, max_queries, None).qrels.items() <= held_out_set(version, 5, None).qrels.items()
