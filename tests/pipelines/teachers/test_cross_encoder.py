"""The cross-encoder teacher: raw logits equal to a plain forward pass, poison pairs, and every refusal."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pipelines.stage.errors import UserError
from pipelines.teachers.config import TeacherConfig, name_teacher
from pipelines.teachers.cross_encoder import CrossEncoderTeacher
from pipelines.unpadded.classifier import can_unpad_pairs
from tests.tiny import edit_weights, poison, texts, tiny_cross_encoder, tiny_encoder

FAMILIES = ["bert", "modernbert", "mpnet", "xlm-roberta"]


def judge(folder: str, device: str | None = None, **settings) -> CrossEncoderTeacher:
    return CrossEncoderTeacher(Path(folder), TeacherConfig(teacher=folder, **settings), device)


def scored_one_by_one(folder: str, queries: list[str], passages: list[str], max_tokens: int) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    truncation = {"truncation": "only_second", "max_length": max_tokens}
    with torch.inference_mode():
        pairs = zip(queries, passages, strict=True)
        return np.array([model(**tokenizer(*pair, return_tensors="pt", **truncation)).logits.item() for pair in pairs])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return tiny_cross_encoder(tmp_path_factory.mktemp("tiny") / "judge")


@pytest.fixture
def own_folder(folder, tmp_path) -> str:
    """A copy that the test may damage."""
    return str(shutil.copytree(folder, tmp_path / "judge"))


@pytest.fixture
def poisoned_folder(own_folder) -> str:
    return poison(own_folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_raw_logits_of_a_plain_forward_pass(family, tmp_path):
    folder = tiny_cross_encoder(tmp_path / family, family=family)
    queries, passages = texts(30, seed=1), texts(30, seed=2, max_words=60)

    scores = judge(folder, max_tokens=48, batch_tokens=150).score(queries, passages)

    expected = scored_one_by_one(folder, queries, passages, max_tokens=48)
    assert expected.std() > 0.1
    np.testing.assert_allclose(scores.score, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(scores.relevance, 1 / (1 + np.exp(-expected)), atol=1e-5, rtol=0)
    assert scores.error == [None] * 30


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", ["bert", "modernbert", "xlm-roberta"])
def test_scores_without_padding_are_the_same(family, pooling, tmp_path):
    """As on a GPU, where pairs are laid end to end; here the same code on a CPU."""
    folder = tiny_cross_encoder(tmp_path / family, family=family)
    if family == "modernbert":
        config = tmp_path / family / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"classifier_pooling": pooling}))
    queries, passages = texts(30, seed=1), texts(30, seed=2, max_words=60)
    teacher = judge(folder, max_tokens=48, batch_tokens=150)
    assert can_unpad_pairs(teacher.model)
    teacher.is_unpadded = True

    expected = scored_one_by_one(folder, queries, passages, max_tokens=48)

    assert expected.std() > 0.1
    np.testing.assert_allclose(teacher.score(queries, passages).score, expected, atol=1e-5, rtol=0)


def test_another_family_is_read_padded(tmp_path):
    assert not can_unpad_pairs(judge(tiny_cross_encoder(tmp_path, family="mpnet"), max_tokens=48).model)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_the_last_layer_reads_the_first_token_alone(family, tmp_path):
    teacher = judge(tiny_cross_encoder(tmp_path, family=family), max_tokens=48)
    seen = []
    teacher.model.base_model.encoder.layer[-1].layer.intermediate.register_forward_pre_hook(
        lambda _, states: seen.append(states[0].shape[:2])
    )

    teacher.score(["a cat", "a dog"], ["a bird sings", "it rains"])

    assert seen == [(2, 1)]


def test_scores_do_not_depend_on_the_order_of_the_pairs(folder):
    queries, passages = texts(40, seed=3), texts(40, seed=4)
    teacher = judge(folder, max_tokens=64, batch_tokens=200)
    order = np.random.default_rng(5).permutation(40)

    shuffled = teacher.score([queries[row] for row in order], [passages[row] for row in order])

    np.testing.assert_allclose(shuffled.score, teacher.score(queries, passages).score[order], atol=1e-5, rtol=0)


def test_no_pairs_give_no_scores(folder):
    scores = judge(folder, max_tokens=64).score([], [])

    assert (len(scores.score), len(scores.relevance), len(scores.tokens_cut), scores.error) == (0, 0, 0, [])


def test_prompts_stand_in_front_of_each_text(folder):
    prompted = judge(folder, max_tokens=64, query_prompt="what is ", passage_prompt="passage ")
    plain = judge(folder, max_tokens=64)

    assert prompted.score(["a cat"], ["a dog"]).score == plain.score(["what is a cat"], ["passage a dog"]).score


def test_tokens_cut_are_those_beyond_max_tokens_and_the_passage_loses_them_first(folder):
    teacher = judge(folder, max_tokens=16)  # 3 of them special
    queries = ["red blue", "red blue", "red " * 40, "red " * 14]
    passages = ["sun " * 11, "sun " * 31, "sun " * 5, "sun sun"]

    scores = teacher.score(queries, passages)

    assert scores.tokens_cut.tolist() == [0, 20, 32, 3]
    np.testing.assert_allclose(scores.score[1], scores.score[0], atol=1e-5)


def test_a_pair_whose_token_is_damaged_is_found_and_only_it(poisoned_folder):
    queries, passages = texts(20, seed=6), texts(20, seed=7)
    passages[13] = "the poison of a fish"

    scores = judge(poisoned_folder, max_tokens=64, batch_tokens=400).score(queries, passages)

    assert scores.error == [None] * 13 + ["the teacher's output is not finite"] + [None] * 6
    assert np.isnan(scores.score).nonzero()[0].tolist() == [13]
    assert np.isnan(scores.relevance).nonzero()[0].tolist() == [13]
    expected = scored_one_by_one(poisoned_folder, queries, passages, max_tokens=64)
    np.testing.assert_allclose(scores.score, expected, atol=1e-5, rtol=0)


def test_a_call_with_nothing_but_a_poison_pair_does_not_blame_the_teacher(poisoned_folder):
    scores = judge(poisoned_folder, max_tokens=64).score(["poison"], ["a poison"])

    assert scores.error == ["the teacher's output is not finite"]


def test_a_lone_surrogate_is_an_error_of_its_pair(folder):
    scores = judge(folder, max_tokens=64).score(["a cat", "a \ud800 cat"], ["a dog", "a dog"])

    assert scores.error == [None, "UnicodeEncodeError: surrogates not allowed at character 2"]
    assert np.isnan(scores.score).tolist() == [False, True]


def test_a_token_without_an_embedding_is_an_error_of_its_pair(own_folder):
    tokenizer = AutoTokenizer.from_pretrained(own_folder)
    tokenizer.add_tokens(["unheard"])
    tokenizer.save_pretrained(own_folder)

    scores = judge(own_folder, max_tokens=64).score(["a cat", "unheard"], ["a dog", "a dog"])

    assert scores.error[0] is None
    assert scores.error[1].startswith(f"ValueError: token id {len(tokenizer) - 1} is beyond the model's")


def test_a_teacher_that_can_score_nothing_is_refused_at_its_first_pair(own_folder):
    edit_weights(own_folder, lambda weights: weights["classifier.bias"].fill_(torch.nan))

    with pytest.raises(UserError, match="cannot score a plain pair of sentences: the teacher's output is not finite"):
        judge(own_folder, max_tokens=64).score(["a cat"], ["a dog"])


def test_bf16_comes_close_and_has_another_name(folder):
    queries, passages = texts(10, seed=8), texts(10, seed=9)
    full = judge(folder, max_tokens=64)
    half = judge(folder, max_tokens=64, precision="bf16")

    np.testing.assert_allclose(half.score(queries, passages).score, full.score(queries, passages).score, atol=0.1)
    assert half.name != full.name


def test_pairs_that_are_read_while_others_are_computed_have_the_same_scores_and_errors(folder):
    queries, passages = [*texts(9, seed=10), "a \ud800 cat", *texts(7, seed=12)], texts(17, seed=11)
    expected = judge(folder, max_tokens=16).score(queries, passages)
    teacher = judge(folder, max_tokens=16)
    teacher.pairs_at_once = 4

    scores = teacher.score(queries, passages)

    np.testing.assert_allclose(scores.score, expected.score, atol=1e-6)
    assert scores.tokens_cut.tolist() == expected.tokens_cut.tolist()
    assert scores.tokens_cut.any()
    assert scores.error == expected.error


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_scores_like_the_cpu(folder, compiled):
    queries, passages = texts(50, seed=10), texts(50, seed=11)

    scores = judge(folder, max_tokens=64, device="cuda", compiled=compiled).score(queries, passages)

    expected = judge(folder, max_tokens=64, device="cpu").score(queries, passages).score
    np.testing.assert_allclose(scores.score, expected, atol=1e-4)


def test_the_name_of_a_loaded_teacher_is_known_without_loading_it(folder):
    teacher = judge(folder, max_tokens=64, query_prompt="q: ")

    assert teacher.name == name_teacher(TeacherConfig(teacher=folder, max_tokens=64, query_prompt="q: "))
    assert teacher.name.startswith("judge@")


def test_a_model_with_several_outputs_is_refused(tmp_path):
    folder = tiny_cross_encoder(tmp_path / "nli", num_labels=3)

    with pytest.raises(UserError, match=r"has 3 outputs \(LABEL_0, LABEL_1, LABEL_2\), expected one relevance logit"):
        judge(folder, max_tokens=64)


def test_an_encoder_without_a_head_is_refused(tmp_path):
    folder = tiny_encoder(tmp_path / "encoder")

    with pytest.raises(UserError, match=r"lack classifier.bias, classifier.weight .* would be random; .*bi_encoder"):
        judge(folder, max_tokens=64)


def test_weights_that_are_not_safetensors_are_refused_with_how_to_convert_them(own_folder):
    weights = Path(own_folder, "model.safetensors")
    torch.save(load_file(weights), Path(own_folder, "pytorch_model.bin"))
    weights.unlink()

    with pytest.raises(UserError, match=r"pytorch_model.bin.*convert it: python -c .*save_pretrained") as refusal:
        judge(own_folder, max_tokens=64)

    exec(str(refusal.value).split('python -c "')[1].rstrip('"'))  # the advice works
    judge(own_folder, max_tokens=64)


def test_a_folder_without_a_model_is_refused(tmp_path):
    (tmp_path / "notes.md").write_text("nothing")

    with pytest.raises(UserError, match=r"holds no model: found notes.md; expected config.json"):
        judge(str(tmp_path), max_tokens=64)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "model.safetensors cannot be read"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "Git LFS pointer"),
        (lambda path: path.unlink(), "has no weights: found config.json"),
    ],
    ids=["truncated", "git lfs pointer", "missing"],
)
def test_weights_that_cannot_be_read_are_refused(own_folder, damage, message):
    damage(Path(own_folder, "model.safetensors"))

    with pytest.raises(UserError, match=message):
        judge(own_folder, max_tokens=64)


def test_weights_that_do_not_fit_the_config_are_refused(own_folder):
    config = json.loads(Path(own_folder, "config.json").read_text())
    Path(own_folder, "config.json").write_text(json.dumps(config | {"hidden_size": 64}))

    with pytest.raises(UserError, match="cannot be loaded"):
        judge(own_folder, max_tokens=64)


def test_an_unknown_architecture_is_refused(own_folder):
    config = json.loads(Path(own_folder, "config.json").read_text())
    Path(own_folder, "config.json").write_text(json.dumps(config | {"model_type": "unheard"}))

    with pytest.raises(UserError, match="cannot be loaded"):
        judge(own_folder, max_tokens=64)


def test_a_missing_tokenizer_is_refused(own_folder):
    Path(own_folder, "tokenizer.json").unlink()

    with pytest.raises(UserError, match=r"has no tokenizer: found config.json"):
        judge(own_folder, max_tokens=64)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_more_tokens_than_the_model_has_positions_are_refused(family, tmp_path):
    folder = tiny_cross_encoder(tmp_path / family, family=family)

    assert judge(folder, max_tokens=512).score(["sun " * 600], ["sun"]).error == [None]
    with pytest.raises(UserError, match="reads at most 512 tokens"):
        judge(folder, max_tokens=513)


JUDGE = Path(__file__).parents[4] / "shared" / "models" / "judge-minilm"


@pytest.mark.slow
@pytest.mark.skipif(not JUDGE.exists(), reason="needs ../shared/models/judge-minilm")
def test_a_real_cross_encoder_scores_like_a_plain_forward_pass():
    queries = ["what is the capital of france", "how to list files"]
    passages = ["paris is the capital and largest city of france .", "ls shows the files of a directory"]

    scores = judge(str(JUDGE), max_tokens=128).score(queries, passages)

    np.testing.assert_allclose(scores.score, scored_one_by_one(str(JUDGE), queries, passages, 128), atol=1e-5)
