"""BEIR folders, what is told of an evaluation set, and its overlap with training."""

import polars as pl

from pipelines.curation.held_out import EvaluationSet
from pipelines.evaluation.evaluation_sets import beir_set, count_overlap, held_out_test_set
from pipelines.texts.ids import text_id
from tests.curated_versions import curated, query_in


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

    held_out = held_out_test_set(curated(tmp_path, rows), None, None)

    assert held_out.own == {text_id(first): {text_id(f"{first.upper()}?")}}
    assert "1 of 2 queries stand in the corpus themselves, as 1 passage " in capsys.readouterr().err


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
