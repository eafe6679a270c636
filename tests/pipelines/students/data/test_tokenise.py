"""Tokenising keeps each text once, exactly as inference will see it; the digest names all that training sees."""

import pickle

import numpy as np
import polars as pl
import pytest
from sentence_transformers import SentenceTransformer

from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version
from pipelines.students.config import DistillConfig
from pipelines.students.data.encode import encode_here
from pipelines.students.data.rows import check_rows
from pipelines.students.data.texts import check_texts
from pipelines.students.data.tokenise import build_token_cache
from pipelines.texts.ids import text_id
from schemas import TeacherVectors
from tests.rows import frame_of
from tests.scored_versions import scored_rows, write_scored, write_triplets
from tests.tiny import tiny_bi_encoder, tiny_tokenizer
from tests.training_data import WIDE, commit_curated, curated_row, vector_of, write_curated, write_vectors

NARROW = "narrow@0123456789ab"
ROWS = [
    curated_row("red cat", "the red cat", "a blue dog"),
    curated_row("red cat", "the red cat", "the deep sea"),
    curated_row("blue dog", "a blue dog", "the red cat"),
    curated_row("old king", "an old king", "a new queen", split="test"),
]


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


def build(folder, curated, vectors=None, tokenizer=None, **settings):
    config = DistillConfig(**({"max_tokens": 32} | settings))
    return build_token_cache(folder, curated, tokenizer or tiny_tokenizer("bert"), config, vectors)


def texts_of(cache):
    """Every text of the cache, decoded."""
    tokenizer = tiny_tokenizer("bert")
    ids = [cache.padded(np.array([text]), 0)[0][0] for text in range(cache.summary["texts"])]
    return [tokenizer.decode(text_ids, skip_special_tokens=True) for text_ids in ids]


def test_each_training_text_is_kept_once_and_triplets_point_at_it(tables, tmp_path):
    cache = build(tmp_path / "cache", commit_curated(tables, ROWS))
    texts = texts_of(cache)

    assert sorted(texts) == ["a blue dog", "blue dog", "red cat", "the deep sea", "the red cat"]
    triplets = [tuple(texts[text] for text in row) for row in cache.arrays["triplet_texts"]]
    assert sorted(triplets) == sorted((row["query"], row["positive"], row["negative"]) for row in ROWS[:3])
    assert sorted(cache.arrays["group_triplets"]) == [1, 2]
    assert (cache.summary["texts_cut"], cache.summary["tokens"]) == (0, 5 + 5 + 5 + 4 + 4)


def test_targets_stand_beside_their_triplets(tables, tmp_path):
    cache = build(tmp_path / "cache", commit_curated(tables, ROWS))
    texts = texts_of(cache)
    expected = {(row["query"], row["negative"]): row["negative_score"] for row in ROWS}

    for (query, _, negative), targets in zip(cache.arrays["triplet_texts"], cache.arrays["targets"], strict=True):
        assert targets[1] == np.float32(expected[texts[query], texts[negative]])


def test_a_text_that_is_query_and_passage_is_kept_as_both(tables, tmp_path):
    rows = [curated_row("red cat", "the red cat", "a blue dog"), curated_row("a blue dog", "blue dog", "red cat")]

    cache = build(tmp_path / "cache", commit_curated(tables, rows), query_prompt="query ", passage_prompt="passage ")

    assert sorted(texts_of(cache)) == [
        *("passage a blue dog", "passage blue dog", "passage red cat", "passage the red cat"),
        *("query a blue dog", "query red cat"),
    ]


def test_tokens_are_those_of_sentence_transformers_with_the_prompt(tables, tmp_path):
    model = SentenceTransformer(tiny_bi_encoder(tmp_path / "model"), device="cpu")
    model.max_seq_length = 9
    row = curated_row("why is the sky blue", "light of the sun " * 8, "no")
    settings = {"max_tokens": 9, "query_prompt": "query: ", "passage_prompt": "passage: "}
    cache = build(tmp_path / "cache", commit_curated(tables, [row]), tokenizer=model.tokenizer, **settings)

    assert cache.summary["texts_cut"] == 1
    for text, (prompt, name) in zip(
        cache.arrays["triplet_texts"][0],
        [("query: ", "query"), ("passage: ", "positive"), ("passage: ", "negative")],
        strict=True,
    ):
        expected = model.preprocess([row[name]], prompt=prompt)
        assert cache.padded(np.array([text]), 0)[0].tolist() == expected["input_ids"].tolist()


def test_digest_does_not_depend_on_files_or_ranges_but_on_rows_targets_and_prompts(tables, tmp_path, monkeypatch):
    one_file = build(tmp_path / "one", commit_curated(tables, ROWS)).summary["digest"]
    monkeypatch.setattr("pipelines.students.data.tokenise.ROWS_PER_READ", 1)
    monkeypatch.setattr("pipelines.students.data.tokenise.TEXTS_PER_BATCH", 2)
    many_files = commit_curated(tables, ROWS, num_blocks=3)
    assert build(tmp_path / "many", many_files).summary["digest"] == one_file

    other_target = [ROWS[0] | {"positive_score": 9.0}, *ROWS[1:]]
    others = [
        build(tmp_path / "prompt", many_files, query_prompt="query ").summary["digest"],
        build(tmp_path / "row", commit_curated(tables, ROWS[1:])).summary["digest"],
        build(tmp_path / "target", commit_curated(tables, other_target)).summary["digest"],
    ]
    assert len({one_file, *others}) == 4


def test_teacher_vectors_stand_at_their_texts(tables, tmp_path):
    curated = write_curated(tables, num_queries=7)
    cache = build(tmp_path / "cache", curated, vectors=write_vectors(tables, curated, width=6))

    for text, decoded in enumerate(texts_of(cache)):
        np.testing.assert_allclose(cache.arrays["vectors"][text], vector_of(decoded, 6), rtol=1e-6)


def test_missing_teacher_vectors_are_counted_and_refused(tables, tmp_path):
    vectors = write_vectors(tables, commit_curated(tables, ROWS[:1]), width=6)

    with pytest.raises(UserError, match="no vector by wide@0123456789ab for 2 of the 5 training texts"):
        build(tmp_path / "cache", commit_curated(tables, ROWS), vectors=vectors)


def test_several_vector_teachers_must_be_chosen_from(tables, tmp_path):
    curated = commit_curated(tables, ROWS)
    write_vectors(tables, curated, width=6)
    vectors = write_vectors(tables, curated, width=4, teacher=NARROW)

    with pytest.raises(UserError, match="set distill"):
        build(tmp_path / "cache", curated, vectors=vectors)
    chosen = build(tmp_path / "chosen", curated, vectors=vectors, vectors_teacher=NARROW)
    assert chosen.arrays["vectors"].shape == (5, 4)


def test_vectors_of_several_teachers_stand_side_by_side(tables, tmp_path):
    curated = write_curated(tables, num_queries=3)
    write_vectors(tables, curated, width=6)
    vectors = write_vectors(tables, curated, width=4, teacher=NARROW)
    of_both = build(tmp_path / "both", curated, vectors=vectors, vectors_teacher=(NARROW, WIDE))
    found = of_both.arrays["vectors"]

    for text, decoded in enumerate(texts_of(of_both)):
        narrow, wide = vector_of(decoded, 4), vector_of(decoded, 6)
        np.testing.assert_allclose(found[text], np.concatenate([narrow, wide]), rtol=1e-5)
    assert of_both.summary["vector_width"] == 10


def test_a_version_without_training_rows_is_refused(tables, tmp_path):
    curated = commit_curated(tables, ROWS[3:])

    with pytest.raises(UserError, match="no triplet in its train split"):
        build(tmp_path / "cache", curated)


def test_candidates_are_a_querys_passages_once_with_the_teachers_word_in_the_order_of_its_triplets(tables, tmp_path):
    cache = build(tmp_path / "cache", commit_curated(tables, ROWS))
    texts, arrays = texts_of(cache), cache.arrays

    for group in range(2):
        triplets = range(*cache.group_offsets[group : group + 2])
        named = [row for triplet in triplets for row in arrays["triplet_texts"][triplet][1:]]
        candidates = range(*cache.candidate_offsets[group : group + 2])
        assert arrays["candidate_passages"][candidates].tolist() == list(dict.fromkeys(named))
        query = texts[arrays["triplet_texts"][triplets[0], 0]]
        for candidate in candidates:
            passage = texts[arrays["candidate_passages"][candidate]]
            relevance = curated_row(query, passage, passage)["positive_relevance"]
            np.testing.assert_allclose(arrays["candidate_targets"][candidate], [10 * relevance - 5, relevance])
    assert [texts[row] for row in np.flatnonzero(arrays["text_is_query"])] == [
        texts[arrays["triplet_texts"][first, 0]] for first in cache.group_offsets[:2]
    ]


def test_triplets_carry_their_ids_and_groups_the_source_of_their_first_triplet(tables, tmp_path):
    rows = [row | {"source": source} for row, source in zip(ROWS, ["news", "faq", "faq", "faq"], strict=True)]
    curated = commit_curated(tables, rows)
    cache = build(tmp_path / "cache", curated)
    training = curated.scan().filter(pl.col("split") == "train").sort("query_id", "triplet_id").collect()

    assert [bytes(one).hex() for one in cache.arrays["triplet_ids"]] == training["triplet_id"].to_list()
    first = training.group_by("query_id", maintain_order=True).first()["source"].to_list()
    assert [cache.sources[one] for one in cache.arrays["group_source"]] == first


def test_only_rows_for_which_the_condition_holds_are_read(tables, tmp_path):
    curated = commit_curated(tables, ROWS)
    cache = build(tmp_path / "cache", curated, where="negative LIKE 'the%' AND query = 'red cat'")

    assert sorted(texts_of(cache)) == ["red cat", "the deep sea", "the red cat"]
    assert check_rows(curated, DistillConfig(where="teacher_margin < 0 OR TRUE")) == 3


REFUSED = {
    "unknown column": ({"where": "margin > 1"}, r"margin.*; it has triplet_id, query_id"),
    "no condition": ({"where": "positive_score + 1"}, "that is true or false, found Float32"),
    "a type that does not fit": ({"where": "positive_score = 'high'"}, "cannot compare string with numeric"),
    "no SQL": ({"where": "source = "}, "unable to parse"),
    "over all rows": ({"where": "positive_score > AVG(positive_score)"}, "must not aggregate"),
    "a count": ({"where": "COUNT(*) > 1"}, "must not aggregate"),
    "one value for all": ({"where": "MAX(positive_score) > 1"}, "must not aggregate"),
    "a window": ({"where": "ROW_NUMBER() OVER (ORDER BY source) > 1"}, "must not aggregate"),
    "nothing left": ({"where": "positive_score > 1e9"}, "holds for no row of curated_triplets@0's train split"),
    "unknown source": ({"source_weights": {"faqs": 2}}, "names faqs, .* of the sources corpus; expected"),
    "nothing weighs": ({"source_weights": {"corpus": 0}}, "leaves out all sources of curated_triplets@0: corpus"),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mixture_that_cannot_be_had_is_refused_with_what_there_is(tables, settings, message):
    rows = [row | {"source": "corpus"} for row in ROWS]

    with pytest.raises(UserError, match=message):
        check_rows(commit_curated(tables, rows), DistillConfig(**settings))


def scored_and_curated(tables, tmp_path):
    """One query's rows: kept, with a margin too small, with a scoring error, and with an evaluation set's document."""
    (tmp_path / "beir" / "qrels").mkdir(parents=True)
    (tmp_path / "beir" / "queries.jsonl").write_text('{"_id": "q", "text": "some question"}\n')
    (tmp_path / "beir" / "corpus.jsonl").write_text('{"_id": "d", "text": "a test document"}\n')
    (tmp_path / "beir" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    rows = [
        *(("red cat", "the red cat", 4.0, "a blue dog", -4.0), ("red cat", "the red cat", 4.0, "a pink cat", 3.9)),
        *(("red cat", "the red cat", 4.0, "a test document", -4.0), ("old king", "an old king", 4.0, "ice", -4.0)),
    ]
    failed = ("red cat", "the red cat", None, "no score", None)
    frame = scored_rows([*rows, failed])
    frame = frame.with_columns(scoring_error=pl.when(pl.col("positive_score").is_null()).then(pl.lit("failed")))
    scored = write_scored(write_triplets(tables, frame), frame)
    shares = {"dev_share": 0, "test_share": 0, "max_drop_share": 1}
    config = CurateConfig(evaluation_sets=(str(tmp_path / "beir"),), corrections=(), **shares)
    return curate.run(scored, config).version


def test_scored_candidates_are_what_the_curation_dropped_as_well_but_no_evaluation_text(tables, tmp_path):
    curated = scored_and_curated(tables, tmp_path)
    cache = build(tmp_path / "cache", curated, candidates_from="scored")
    texts = texts_of(cache)

    candidates = {}
    for group in range(2):
        rows = range(*cache.candidate_offsets[group : group + 2])
        query = texts[cache.arrays["triplet_texts"][cache.group_offsets[group], 0]]
        passages = [texts[text] for text in cache.arrays["candidate_passages"][rows]]
        scores = cache.arrays["candidate_targets"][rows, 0].tolist()
        candidates[query] = dict(zip(passages, np.round(scores, 5).tolist(), strict=True))
    assert candidates == {
        "red cat": {"the red cat": 4, "a blue dog": -4, "a pink cat": 3.9},
        "old king": {"an old king": 4, "ice": -4},
    }
    curated_only = build(tmp_path / "curated", curated)
    assert curated_only.summary["digest"] != cache.summary["digest"]
    assert "a pink cat" not in texts_of(curated_only)


def test_scored_candidates_of_rows_that_no_curation_made_are_refused(tables, tmp_path):
    with pytest.raises(UserError, match="what the curation of curated_triplets@0 read and dropped is not known here"):
        build(tmp_path / "cache", commit_curated(tables, ROWS), candidates_from="scored")


def plain_vectors(tables, *texts, kind="passage", teacher=WIDE, width=6):
    rows = [{"text_id": text_id(one), "kind": kind, "vector": vector_of(one, width), "text": one} for one in texts]
    with new_version(tables, TeacherVectors, Lineage("score", [], Config())) as vectors:
        vectors.write(frame_of(TeacherVectors, *rows, teacher=teacher))
    return vectors.version


TEXTS = DistillConfig(data="texts", margin_mse=0, vectors=1, max_tokens=32)


def build_texts(folder, curated, vectors):
    return build_token_cache(folder, curated, tiny_tokenizer("bert"), TEXTS, vectors)


def test_texts_are_all_that_have_a_vector_but_what_judges_students(tables, tmp_path, monkeypatch):
    curated = commit_curated(tables, ROWS)
    write_vectors(tables, commit_curated(Tables.at(str(tmp_path / "part")), ROWS[:1]), width=6)
    vectors = plain_vectors(tables, "a new text", "Old KING!", "an old king")
    vectors = plain_vectors(tables, "a new text", "old king", kind="query")
    cache = build_texts(tmp_path / "cache", curated, vectors)

    expected = [("a blue dog", False), ("a new text", False), ("a new text", True), ("an old king", False)]
    expected += [("red cat", True), ("the red cat", False)]
    is_query = cache.arrays["text_is_query"].tolist()
    assert sorted(zip(texts_of(cache), is_query, strict=True)) == expected
    assert cache.summary["texts_kept_out"] == 2
    for text, decoded in enumerate(texts_of(cache)):
        np.testing.assert_allclose(cache.arrays["vectors"][text], vector_of(decoded, 6), rtol=1e-6)
    assert check_texts(curated, vectors, TEXTS) == 8
    monkeypatch.setattr("pipelines.students.data.texts.TEXTS_PER_READ", 1)
    again = build_texts(tmp_path / "again", curated, vectors)
    assert again.summary == cache.summary


def test_texts_of_several_teachers_are_those_that_all_of_them_have(tables, tmp_path):
    curated = commit_curated(tables, ROWS[:1])
    write_vectors(tables, curated, width=6)
    plain_vectors(tables, "a new text", "another text")
    write_vectors(tables, commit_curated(Tables.at(str(tmp_path / "part")), ROWS[:1]), width=4, teacher=NARROW)
    vectors = plain_vectors(tables, "another text", "a third text", teacher=NARROW, width=4)
    of_both = TEXTS.model_copy(update={"vectors_teacher": (NARROW, WIDE)})
    cache = build_token_cache(tmp_path / "cache", curated, tiny_tokenizer("bert"), of_both, vectors)

    assert sorted(texts_of(cache)) == ["a blue dog", "another text", "red cat", "the red cat"]
    assert cache.arrays["vectors"].shape == (4, 10)
    assert check_texts(curated, vectors, of_both) == 4


def test_texts_of_evaluation_sets_are_kept_out(tables, tmp_path):
    curated = scored_and_curated(tables, tmp_path)
    vectors = plain_vectors(tables, "A test document.", "some question", "another text")
    cache = build_texts(tmp_path / "cache", curated, vectors)

    assert (texts_of(cache), cache.summary["texts_kept_out"]) == (["another text"], 2)


def test_bytes_are_the_same_wherever_batches_are_encoded(tables, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.students.data.tokenise.TEXTS_PER_BATCH", 3)
    curated = write_curated(tables, num_queries=9)

    def in_processes(encoder, batches):
        return map(pickle.loads(pickle.dumps(encoder)).encode, list(batches))

    config = DistillConfig(max_tokens=16)
    for name, encode_all in (("here", encode_here), ("there", in_processes)):
        build_token_cache(tmp_path / name, curated, tiny_tokenizer("bert"), config, encode_all=encode_all)
    for path in (tmp_path / "here").iterdir():
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()
