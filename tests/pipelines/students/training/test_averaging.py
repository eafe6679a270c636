"""The student that is taken is the average of start and trained, also where the best is chosen, also after kills."""

import pytest
import torch
from sentence_transformers import SentenceTransformer

from pipelines.checkpoints.files import MODEL
from pipelines.students.training.loop import STATE
from tests.tiny_training import EVERY_TERM, Killed, steps_saved, weights_of

SHARE = {"start_share": 0.25}


def test_the_weights_are_those_of_the_start_and_the_trained_in_their_shares(setting, tmp_path):
    start = weights_of(setting.student())
    _, trained, _ = setting.train(tmp_path / "trained")

    _, averaged, _ = setting.train(tmp_path / "averaged", **SHARE)

    expected = 0.25 * start + 0.75 * weights_of(trained)
    torch.testing.assert_close(weights_of(averaged), expected)
    saved = SentenceTransformer(str(tmp_path / "averaged" / "step_20" / MODEL), device="cpu")
    names = [name for name, _ in saved.named_parameters() if "pooler" not in name]  # BERT's, unused: not saved
    assert all(torch.equal(saved.get_parameter(name), averaged.get_parameter(name)) for name in names)
    assert not torch.allclose(weights_of(trained), expected, atol=1e-4)


def test_the_start_of_a_head_that_turns_is_the_turned_one(dense, tmp_path):
    """The best of no training at all is the start itself, whatever the share."""
    still = {"vectors_axes": "principal", "learning_rate": 1e-12}
    weights = [weights_of(dense.train(tmp_path / str(share), **still, start_share=share)[1]) for share in (0, 0.5)]

    torch.testing.assert_close(*weights, rtol=0, atol=1e-8)


@pytest.mark.parametrize("changes", [{}, {"dev_every_steps": 3, "learning_rate": 0.1}], ids=["last", "best"])
@pytest.mark.parametrize("killed_at", [8, 19])
def test_a_killed_run_is_averaged_as_if_it_had_not_been(setting, tmp_path, changes, killed_at):
    config = SHARE | EVERY_TERM | changes
    _, student, lines = setting.train(tmp_path / "whole", **config)
    with pytest.raises(Killed):
        setting.train(tmp_path / "killed", **config, kill_at_step=killed_at)
    last = max(steps_saved(tmp_path / "killed"))

    resumed = setting.train(tmp_path / "killed", **config, resume_from=tmp_path / "killed" / f"step_{last}")

    assert torch.equal(weights_of(resumed[1]), weights_of(student))
    assert [line["loss"] for line in resumed[2]] == [line["loss"] for line in lines[-len(resumed[2]) :]]


def test_the_best_is_chosen_among_averaged_students_and_training_goes_on_from_trained_ones(setting, tmp_path):
    config = {"dev_every_steps": 3, "learning_rate": 0.1}
    _, _, plain = setting.train(tmp_path / "plain", **config)
    summary, student, lines = setting.train(tmp_path / "averaged", **config, **SHARE)

    assert [line["loss"] for line in lines] == [line["loss"] for line in plain]
    found = {line["step"] + 1: line["dev_ndcg_at_10"] for line in lines if "dev_ndcg_at_10" in line}
    assert found != {line["step"] + 1: line["dev_ndcg_at_10"] for line in plain if "dev_ndcg_at_10" in line}
    best = max(found, key=found.get)
    assert summary.dev["step"] == best
    setting.train(tmp_path / "again", **config, checkpoint_every_steps=best)
    state = torch.load(tmp_path / "again" / f"step_{best}" / STATE)["model"]
    named = {f"student.{name}": weight for name, weight in student.named_parameters()}
    start = {f"student.{name}": weight for name, weight in setting.student().named_parameters()}
    for name, weight in named.items():
        torch.testing.assert_close(weight.detach(), 0.25 * start[name].detach() + 0.75 * state[name])
