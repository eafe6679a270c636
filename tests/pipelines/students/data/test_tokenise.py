"""Tokenising keeps each text once, exactly as inference will see it; the digest names all that training sees."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.students.config import DistillConfig
from pipelines.students.data.tokenise import build_token_cache
from tests.tiny import tiny_bi_encoder, tiny_tokenizer
from tests.training_data import commit_curated, curated_row, vector_of, write_curated, write_vectors

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
    vectors = write_vectors(tables, curated, width=4, teacher="narrow@0123456789ab")

    with pytest.raises(UserError, match="set distill"):
        build(tmp_path / "cache", curated, vectors=vectors)
    chosen = build(tmp_path / "chosen", curated, vectors=vectors, vectors_teacher="narrow@0123456789ab")
    assert chosen.arrays["vectors"].shape == (5, 4)


def test_a_version_without_training_rows_is_refused(tables, tmp_path):
    curated = commit_curated(tables, ROWS[3:])

    with pytest.raises(UserError, match="no triplet in its train split"):
        build(tmp_path / "cache", curated)
