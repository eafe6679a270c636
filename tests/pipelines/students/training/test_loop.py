"""The loop on one rank: it learns, goes on bit-identically after a kill, and leaves complete metrics."""

import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from pipelines.checkpoints.run_folder import METRICS, MODEL, OBJECTIVE
from pipelines.students.data.plan import Schedule, learning_rate_at
from pipelines.students.data.token_cache import TokenCache
from pipelines.students.training.encoder import RankEncoder
from pipelines.students.training.loop import STATE
from pipelines.students.training.not_finite import NonFinite
from pipelines.students.training.optimizer import Optimizer
from pipelines.students.training_config import TrainingConfig
from tests.tiny_training import (
    EVERY_TERM,
    OF_EACH_TEXT,
    SETTINGS,
    WIDE,
    WIDTH,
    Killed,
    Setting,
    steps_saved,
    weights_of,
)

STEPS = 20  # 40 queries with 3 triplets each, 12 triplets a step, 2 epochs


@pytest.fixture(scope="module")
def undisturbed(setting, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, *setting.train(folder)


def test_loss_falls(setting, tmp_path):
    _, _, lines = setting.train(tmp_path, epochs=8)
    losses = [line["loss"] for line in lines]

    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_killed_run_goes_on_from_its_checkpoint_to_identical_weights_and_metrics(setting, undisturbed, tmp_path):
    _, _, student, lines = undisturbed
    with pytest.raises(Killed):
        setting.train(tmp_path, kill_at_step=16)
    assert steps_saved(tmp_path) == [7, 14]
    assert len((tmp_path / METRICS).read_text().splitlines()) == 17

    summary, resumed, _ = setting.train(tmp_path, resume_from=tmp_path / "step_14")

    assert summary.steps == STEPS
    assert torch.equal(weights_of(resumed), weights_of(student))
    metrics = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["loss"] for line in metrics] == [line["loss"] for line in lines]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_a_killed_run_goes_on_from_its_checkpoint_to_identical_weights(setting, tmp_path, compiled):
    on_gpu = {"device": "cuda", "compiled": compiled, "precision": "bf16"}
    _, student, _ = setting.train(tmp_path / "undisturbed", **on_gpu)
    with pytest.raises(Killed):
        setting.train(tmp_path / "killed", **on_gpu, kill_at_step=9)

    _, resumed, _ = setting.train(tmp_path / "killed", **on_gpu, resume_from=tmp_path / "killed/step_7")

    assert torch.equal(weights_of(resumed), weights_of(student))


def test_same_seed_gives_identical_weights_and_another_seed_others(setting, undisturbed, tmp_path):
    weights = weights_of(undisturbed[2])

    assert torch.equal(weights_of(setting.train(tmp_path / "same")[1]), weights)
    assert not torch.equal(weights_of(setting.train(tmp_path / "other", seed=1)[1]), weights)


def test_dropout_repeats_itself_by_seed_and_step_also_after_a_kill(setting, undisturbed, tmp_path):
    _, once, _ = setting.train(tmp_path / "once", dropout=0.1)
    assert not torch.equal(weights_of(once), weights_of(undisturbed[2]))
    with pytest.raises(Killed):
        setting.train(tmp_path / "killed", dropout=0.1, kill_at_step=9)

    _, resumed, _ = setting.train(tmp_path / "killed", dropout=0.1, resume_from=tmp_path / "killed/step_7")

    assert torch.equal(weights_of(resumed), weights_of(once))


def test_every_step_leaves_one_line_of_metrics(undisturbed):
    folder, summary, _, _ = undisturbed
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]

    assert [line["step"] for line in lines] == list(range(STEPS))
    assert [line["epoch"] for line in lines] == [0] * 10 + [1] * 10
    assert sum(line["triplets"] for line in lines) == 2 * 120
    assert summary.steps == STEPS
    for line in lines:
        terms = line["margin_mse"] + 0.5 * line["info_nce"] + 0.5 * line["vectors"]
        assert line["loss"] == pytest.approx(terms, rel=1e-6)
        assert 0 <= line["padding_share"] < 0.5
        assert line["grad_norm"] > 0
        assert line["tokens"] > line["texts"] > 0
        assert line["triplets_per_s"] > 0
        assert line["learning_rate"] == learning_rate_at(line["step"], STEPS, TrainingConfig(learning_rate=1e-3))


def test_last_checkpoint_holds_a_loadable_student_with_the_trained_weights(undisturbed):
    folder, _, student, _ = undisturbed
    saved = SentenceTransformer(str(folder / f"step_{STEPS}" / MODEL), device="cpu")

    assert (saved.encode("the red cat") == student.encode("the red cat")).all()


@pytest.mark.parametrize("changes", [{"tokens_per_forward": 100_000}, {"recompute_embeddings": True}])
def test_how_the_step_is_cut_or_recomputed_does_not_change_what_is_learned(setting, tmp_path, changes):
    _, expected, _ = setting.train(tmp_path / "a", dtype=torch.float64)
    _, student, _ = setting.train(tmp_path / "b", dtype=torch.float64, **changes)

    torch.testing.assert_close(weights_of(student), weights_of(expected), rtol=0, atol=1e-9)


def test_frozen_token_embeddings_stay_the_source_s_while_all_else_learns(setting, tmp_path):
    _, student, _ = setting.train(tmp_path, freeze_embeddings=True)

    same = {
        name: torch.equal(trained, before)
        for (name, trained), before in zip(student.named_parameters(), setting.student().parameters(), strict=True)
    }
    assert [name.split(".")[-2] for name in same if same[name]] == ["word_embeddings"]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_sub_forwards_in_turn_give_the_bytes_of_all_at_once(setting, tmp_path, monkeypatch, precision):
    """A text's distance to its teacher's vector asks for no other text: one graph at a time, the same sums."""
    changes = {**OF_EACH_TEXT, "precision": precision}
    _, in_turn, lines = setting.train(tmp_path / "in_turn", **changes)
    monkeypatch.setattr(RankEncoder, "can_take_turns", False)
    _, at_once, expected = setting.train(tmp_path / "at_once", **changes)

    assert torch.equal(weights_of(in_turn), weights_of(at_once))
    assert [line["loss"] for line in lines] == [line["loss"] for line in expected]
    assert [line["grad_norm"] for line in lines] == [line["grad_norm"] for line in expected]


class Kept:
    """A tensor, as long as autograd keeps it for the backward pass; `most` is of all of them at once, in bytes."""

    held = most = 0

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        Kept.held += tensor.nbytes
        Kept.most = max(Kept.most, Kept.held)

    def __del__(self) -> None:
        Kept.held -= self.tensor.nbytes


def test_sub_forwards_in_turn_keep_one_graph(setting, tmp_path, monkeypatch):
    most = []
    for can_take_turns in (True, False):
        monkeypatch.setattr(RankEncoder, "can_take_turns", can_take_turns)
        Kept.held = Kept.most = 0
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            setting.train(tmp_path / str(can_take_turns), **OF_EACH_TEXT, max_steps=2)
        most.append(Kept.most)

    assert most[1] > 2 * most[0] > 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_keeps_float32_weights_and_learns_as_float32_does(setting, undisturbed, tmp_path, precision):
    _, student, lines = setting.train(tmp_path, precision=precision)

    assert weights_of(student).dtype == torch.float32
    exact = [line["loss"] for line in undisturbed[3]]
    assert lines[0]["loss"] == pytest.approx(exact[0], rel=0.01)
    assert sum(line["loss"] for line in lines) == pytest.approx(sum(exact), rel=0.1)


def test_max_steps_ends_early_with_the_learning_rate_decayed_to_that_end(setting, tmp_path):
    summary, _, lines = setting.train(tmp_path, max_steps=4)

    assert summary.steps == 4
    assert lines[-1]["learning_rate"] < lines[0]["learning_rate"] / 2
    assert steps_saved(tmp_path) == [4]


def test_loss_that_is_not_finite_stops_and_names_the_step(setting, tmp_path):
    with pytest.raises(NonFinite, match=r"loss of step 1 is nan .*Which of its \d+ triplets is at fault"):
        setting.train(tmp_path, learning_rate=1e30, max_grad_norm=1e30, tokens_per_forward=100_000)


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_a_row_that_is_not_finite_is_named_and_the_last_checkpoint_stays(setting, tmp_path, precision):
    poisoned, triplet_id = with_a_nan(setting, tmp_path)

    with pytest.raises(NonFinite) as caught:
        poisoned.train(tmp_path, precision=precision, checkpoint_every_steps=1)

    told = str(caught.value.of_version("curated_triplets@3"))
    assert re.match(r"the loss of step \d+ is nan .* In 1 of its \d+ triplets a target of the teacher's is not", told)
    query = f"SELECT * FROM curated_triplets WHERE triplet_id IN ('{triplet_id}')"
    assert f'python -m jobs query --at curated_triplets@3 "{query}"' in told
    state = torch.load(tmp_path / "step_1" / STATE, weights_only=True)
    assert all(torch.isfinite(weight).all() for weight in state["model"].values())
    assert caught.value.triplet_ids == pickle.loads(pickle.dumps(caught.value)).triplet_ids == (triplet_id,)


@pytest.mark.parametrize(("dtype", "seen"), [(None, 1), (torch.float16, 17)])
def test_a_gradient_that_is_not_finite_stops_before_it_moves_a_weight(dtype, seen):
    """fp16 first halves the scale of its loss, from 65,536 down to 1."""
    student = torch.nn.Linear(2, 1)
    optimizer = Optimizer(student, TrainingConfig(), torch.device("cpu"), dtype)
    before = weights_of(student)

    def step() -> None:
        optimizer.backward(student(torch.tensor([1.0, 0.0])).sum() * torch.tensor(torch.nan))
        assert optimizer.update(1e-3) is None

    for _ in range(seen - 1):
        step()
    with pytest.raises(ArithmeticError, match="has norm nan"):
        step()
    assert torch.equal(weights_of(student), before)


def test_weights_that_are_not_finite_are_not_saved(setting, tmp_path):
    with pytest.raises(NonFinite, match=r"after step 1 .*weight.* hold a number that is not finite"):
        setting.train(tmp_path, learning_rate=3e38, max_grad_norm=1e30, warmup_share=0.0, max_steps=1, weight_decay=1.0)

    assert steps_saved(tmp_path) == []


def with_a_nan(setting: Setting, tmp_path: Path) -> tuple[Setting, str]:
    """The same training with one target that is NaN, of a triplet that is not in the first step; its triplet's id."""
    cache = Path(shutil.copytree(setting.cache, tmp_path / "poisoned"))
    opened = TokenCache.open(cache)
    config = TrainingConfig(**SETTINGS)
    triplet = int(Schedule(opened, config).batch(3).triplets[0])
    targets = np.fromfile(cache / "targets", np.float32).reshape(-1, 4)
    targets[triplet, 2] = np.nan
    targets.tofile(cache / "targets")
    return replace(setting, cache=str(cache)), opened.arrays["triplet_ids"][triplet].tobytes().hex()


def test_learning_rate_rises_then_falls_linearly_to_zero():
    config = TrainingConfig(learning_rate=1.0, warmup_share=0.2)

    rates = [learning_rate_at(step, 10, config) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


@pytest.fixture(scope="module")
def every_term(wide, tmp_path_factory):
    folder = tmp_path_factory.mktemp("every_term")
    return folder, *wide.train(folder, **EVERY_TERM)


def test_every_term_leaves_its_value_beside_their_weighted_sum(every_term):
    *_, lines = every_term
    weights = TrainingConfig(**SETTINGS | EVERY_TERM).weights()

    assert all(weights.values())
    for line in lines:
        assert line["loss"] == pytest.approx(sum(weights[term] * line[term] for term in weights), rel=1e-6)
        assert all(line[term] > 0 for term in weights if term != "spread_out")


def test_a_killed_run_goes_on_with_what_its_objective_trained_to_identical_bytes(wide, every_term, tmp_path):
    folder, _, student, _ = every_term
    with pytest.raises(Killed):
        wide.train(tmp_path, kill_at_step=16, **EVERY_TERM)

    _, resumed, _ = wide.train(tmp_path, resume_from=tmp_path / "step_14", **EVERY_TERM)

    assert torch.equal(weights_of(resumed), weights_of(student))
    last = f"step_{STEPS}/{OBJECTIVE}"
    assert (tmp_path / last).read_bytes() == (folder / last).read_bytes()


def test_what_the_objective_trained_is_kept_beside_the_model_and_taken_up_by_another_training(
    wide, every_term, tmp_path
):
    path = every_term[0] / f"step_{STEPS}" / OBJECTIVE
    trained = load_file(path)
    assert {name: tuple(value.shape) for name, value in trained.items()} == {
        "margin_mse.scale.log": (),
        "pointwise.offset": (),
        "pointwise.scale.log": (),
        "vectors.projection": (WIDE, WIDTH),
    }
    barely = {"learning_rate": 1e-12, "max_steps": 1} | EVERY_TERM

    wide.train(tmp_path / "next", carried=path.parent, **barely)
    wide.train(tmp_path / "anew", **barely)

    for name, value in load_file(tmp_path / "next" / "step_1" / OBJECTIVE).items():
        torch.testing.assert_close(value, trained[name], rtol=0, atol=1e-9)
    anew = load_file(tmp_path / "anew" / "step_1" / OBJECTIVE)["vectors.projection"]
    assert (anew - trained["vectors.projection"]).abs().max() > 1e-4


def test_a_checkpoint_of_before_objectives_were_trained_goes_on(setting, undisturbed, tmp_path):
    with pytest.raises(Killed):
        setting.train(tmp_path, kill_at_step=16)
    state = torch.load(tmp_path / "step_14" / STATE, weights_only=True)
    del state["objective"]
    torch.save(state, tmp_path / "step_14" / STATE)

    _, resumed, _ = setting.train(tmp_path, resume_from=tmp_path / "step_14")

    assert torch.equal(weights_of(resumed), weights_of(undisturbed[2]))
    assert not (tmp_path / f"step_{STEPS}" / OBJECTIVE).exists()


PRINCIPAL = {"vectors": 1.0, "vectors_axes": "principal", "margin_mse": 0.0, "info_nce": 0.0}


def test_a_dense_head_begins_as_the_rotation_to_the_teacher_s_axes_and_learns_in_all_their_cuts(dense, tmp_path):
    before = dense.student()
    texts = [f"text {number} of {number % 7}" for number in range(20)]
    _, barely, first = dense.train(tmp_path / "barely", learning_rate=1e-12, max_steps=1, **PRINCIPAL)
    _, trained, lines = dense.train(tmp_path / "trained", epochs=6, **PRINCIPAL)

    turned = barely.encode(texts, convert_to_tensor=True)
    still = before.encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(turned @ turned.T, still @ still.T, rtol=0, atol=1e-5)
    assert (turned - still).abs().max() > 0.05
    assert lines[-1]["loss"] < 0.9 * first[0]["loss"]
    assert tuple(load_file(tmp_path / "barely" / "step_1" / OBJECTIVE)["vectors.axes"].shape) == (WIDTH, WIDE)
    saved = SentenceTransformer(str(tmp_path / "trained" / f"step_{len(lines)}" / MODEL), device="cpu")
    torch.testing.assert_close(saved.encode(texts), trained.encode(texts))


def test_a_dense_head_goes_on_from_a_checkpoint_to_identical_weights(dense, tmp_path):
    _, undisturbed, _ = dense.train(tmp_path / "a", **PRINCIPAL)
    with pytest.raises(Killed):
        dense.train(tmp_path / "b", kill_at_step=9, **PRINCIPAL)

    _, resumed, _ = dense.train(tmp_path / "b", resume_from=tmp_path / "b" / "step_7", **PRINCIPAL)

    assert torch.equal(weights_of(resumed), weights_of(undisturbed))


def test_a_later_stage_takes_up_the_axes_and_turns_nothing(dense, tmp_path):
    _, trained, lines = dense.train(tmp_path / "first", **PRINCIPAL)
    last = tmp_path / "first" / f"step_{len(lines)}"
    second = Setting(str(last / MODEL), dense.cache)

    _, student, _ = second.train(tmp_path / "next", carried=last, learning_rate=1e-12, max_steps=1, **PRINCIPAL)

    texts = ["a text", "another one"]
    torch.testing.assert_close(student.encode(texts), trained.encode(texts), rtol=0, atol=1e-6)
