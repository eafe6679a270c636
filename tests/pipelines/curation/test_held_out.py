"""The test and dev split of a real curation: relevance as ingested, samples, corpora."""

import pytest

from pipelines import curate
from pipelines.curation.held_out import EvaluationSet, held_out_set
from pipelines.storage import Tables
from pipelines.texts.ids import text_id
from tests.curated_versions import HALF, curated, query_in
from tests.scored_versions import scored_rows, write_scored, write_triplets


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


@pytest.mark.parametrize("max_queries", [1, 3])
def test_a_sample_is_a_part_of_a_larger_one(tmp_path, max_queries):
    rows = [(query_in("test", number), f"p{number}", 5.0, f"n{number}", -5.0) for number in range(6)]
    version = curated(tmp_path, rows)

    assert held_out_set(version, max_queries, None).qrels.items() <= held_out_set(version, 5, None).qrels.items()
