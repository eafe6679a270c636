"""The bi-encoder teacher: vectors equal to sentence-transformers' own, prompts, poison texts and refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense

from pipelines.stage.errors import UserError
from pipelines.teachers.bi_encoder import BiEncoderTeacher
from pipelines.teachers.config import TeacherConfig, name_teacher
from pipelines.unpadded.forward import can_unpad
from tests.tiny import edit_weights, poison, texts, tiny_bi_encoder, tiny_cross_encoder, tiny_encoder

PROMPTS = {"query": "query ", "passage": "passage "}


def encoder(folder: str, **settings) -> BiEncoderTeacher:
    return BiEncoderTeacher(Path(folder), TeacherConfig(teacher=folder, teacher_kind="bi_encoder", **settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return tiny_bi_encoder(tmp_path_factory.mktemp("tiny") / "encoder", prompts=PROMPTS)


@pytest.fixture
def own_folder(folder, tmp_path) -> str:
    """A copy that the test may damage."""
    return str(shutil.copytree(folder, tmp_path / "encoder"))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("family", ["bert", "modernbert", "xlm-roberta"])
def test_vectors_without_padding_are_the_same(family, precision, tmp_path, monkeypatch):
    """As on a GPU, where texts are laid end to end; here the same code on a CPU. With a linear layer behind."""
    folder = tiny_bi_encoder(tmp_path / family, family=family, prompts=PROMPTS)
    reference = SentenceTransformer(folder, device="cpu")
    reference.insert(2, Dense(32, 16))
    reference.save(folder)
    reference.max_seq_length = 24
    some = texts(40, seed=1, max_words=30)
    teacher = encoder(folder, max_tokens=24, batch_tokens=100, precision=precision)
    assert can_unpad(teacher.model)
    _, cut, _ = teacher.embed(some, "query")
    teacher.is_unpadded = True
    monkeypatch.setattr("pipelines.teachers.bi_encoder.TEXTS_AT_ONCE", 7)

    vectors, cut_without_padding, _ = teacher.embed(some, "query")

    assert cut_without_padding.tolist() == cut.tolist()
    assert cut.any()
    atol = {"float32": 1e-6, "bf16": 0.05}[precision]
    expected = reference.encode_query(some, normalize_embeddings=True)
    np.testing.assert_allclose(vectors, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("family", ["bert", "modernbert", "mpnet", "xlm-roberta"])
def test_vectors_are_those_of_sentence_transformers(family, tmp_path):
    folder = tiny_bi_encoder(tmp_path / family, family=family)
    reference = SentenceTransformer(folder, device="cpu")
    reference.max_seq_length = 24
    some = texts(40, seed=1, max_words=30)

    vectors = encoder(folder, max_tokens=24, batch_tokens=100).encode(some, "query")

    np.testing.assert_allclose(vectors, reference.encode(some, normalize_embeddings=True), atol=1e-6, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_models_own_prompts_are_the_default(folder):
    reference = SentenceTransformer(folder, device="cpu")
    teacher = encoder(folder, max_tokens=64)
    some = texts(5, seed=2, max_words=30)

    queries, passages = teacher.encode(some, "query"), teacher.encode(some, "passage")

    np.testing.assert_allclose(queries, reference.encode_query(some, normalize_embeddings=True), atol=1e-6)
    np.testing.assert_allclose(passages, reference.encode(some, prompt=PROMPTS["passage"]), atol=1e-6)
    assert np.abs(queries - passages).max() > 1e-3


def test_given_prompts_go_before_the_models_own(folder):
    plain = encoder(folder, max_tokens=64, query_prompt="", passage_prompt="what is ")
    reference = SentenceTransformer(folder, device="cpu")

    np.testing.assert_allclose(plain.encode(["a cat"], "query"), reference.encode(["a cat"]), atol=1e-6)
    np.testing.assert_allclose(plain.encode(["a cat"], "passage"), reference.encode(["what is a cat"]), atol=1e-6)


def test_scores_are_cosines_in_the_order_asked(folder):
    teacher = encoder(folder, max_tokens=64, batch_tokens=100)
    queries, passages = [*texts(20, seed=3, max_words=30), "a cat"], [*texts(20, seed=4, max_words=30), "a cat"]

    scores = teacher.score(queries, passages)

    query_vectors = SentenceTransformer(folder, device="cpu").encode_query(queries)
    passage_vectors = SentenceTransformer(folder, device="cpu").encode(passages, prompt=PROMPTS["passage"])
    expected = (query_vectors * passage_vectors).sum(axis=1)
    np.testing.assert_allclose(scores.score, expected, atol=1e-6, rtol=0)
    np.testing.assert_allclose(scores.relevance, (1 + expected) / 2, atol=1e-6, rtol=0)
    assert scores.score.dtype == scores.relevance.dtype == np.float32


def test_each_different_text_passes_the_model_once(folder):
    teacher = encoder(folder, max_tokens=64)
    rows_seen = []
    teacher.model[-1].register_forward_pre_hook(lambda _, args: rows_seen.append(len(args[0]["sentence_embedding"])))

    teacher.score(["a cat"] * 8 + ["a dog"] * 8, ["a bird"] * 16)

    assert sum(rows_seen) == 3


def test_a_model_that_truncates_its_vectors_still_gives_unit_vectors(own_folder):
    settings = Path(own_folder, "config_sentence_transformers.json")
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"truncate_dim": 8}))

    teacher = encoder(own_folder, max_tokens=64)
    vectors = teacher.encode(["a cat", "a dog"], "query")

    expected = SentenceTransformer(own_folder, device="cpu").encode_query(["a cat", "a dog"], normalize_embeddings=True)
    assert vectors.shape == (2, teacher.dimension) == (2, 8)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_tokens_cut_count_both_texts(folder):
    teacher = encoder(folder, max_tokens=10)  # 2 of them special, 1 of the prompt

    scores = teacher.score(["sun " * 7, "sun " * 9, "sun"], ["sun", "sun " * 12, "sun " * 8])

    assert scores.tokens_cut.tolist() == [0, 7, 1]


def test_no_texts_give_no_vectors(folder):
    teacher = encoder(folder, max_tokens=64)

    assert teacher.encode([], "query").shape == (0, 32)
    assert len(teacher.score([], []).score) == 0


def test_a_text_whose_token_is_damaged_is_an_error_of_its_pairs_only(own_folder):
    teacher = encoder(poison(own_folder), max_tokens=64)
    passages = texts(20, seed=5, max_words=30)
    passages[3] = passages[11] = "the poison of a fish"

    scores = teacher.score(["a cat"] * 20, passages)

    assert [row for row, why in enumerate(scores.error) if why] == [3, 11]
    assert np.isnan(scores.score).nonzero()[0].tolist() == [3, 11]
    assert np.isnan(teacher.encode(["poison", "a cat"], "query")).all(axis=1).tolist() == [True, False]


def test_a_lone_surrogate_is_an_error_of_its_pair(folder):
    scores = encoder(folder, max_tokens=64).score(["a cat", "\ud800"], ["a dog", "a dog"])

    assert scores.error == [None, "UnicodeEncodeError: surrogates not allowed at character 0"]
    assert np.isnan(scores.score).tolist() == [False, True]


def test_a_teacher_that_can_encode_nothing_is_refused(own_folder):
    edit_weights(own_folder, lambda weights: weights["embeddings.LayerNorm.bias"].fill_(torch.nan))

    with pytest.raises(UserError, match="cannot encode a plain sentence: the teacher's output is not finite"):
        encoder(own_folder, max_tokens=64).score(["a cat"], ["a dog"])


def test_the_name_of_a_loaded_teacher_is_known_without_loading_it(folder):
    config = TeacherConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64)

    assert encoder(folder, max_tokens=64).name == name_teacher(config)


def test_a_plain_encoder_is_refused_because_its_pooling_is_unknown(tmp_path):
    with pytest.raises(UserError, match=r"no modules.json, so its pooling is unknown"):
        encoder(tiny_encoder(tmp_path / "plain"), max_tokens=64)


def test_a_saved_cross_encoder_is_refused(tmp_path):
    folder = str(tmp_path / "saved")
    CrossEncoder(tiny_cross_encoder(tmp_path / "judge"), device="cpu").save_pretrained(folder)

    with pytest.raises(UserError, match=r"score.teacher_kind"):
        encoder(folder, max_tokens=64)


def test_weights_that_lack_a_layer_are_refused(own_folder):
    edit_weights(own_folder, lambda weights: weights.pop("encoder.layer.1.output.dense.weight"))

    with pytest.raises(UserError, match=r"lack encoder.layer.1.output.dense.weight .*, which would be random"):
        encoder(own_folder, max_tokens=64)


def test_more_tokens_than_the_model_has_positions_are_refused(folder):
    with pytest.raises(UserError, match=r"max_tokens is 1024, but .* reads at most 512 tokens"):
        encoder(folder, max_tokens=1024)
