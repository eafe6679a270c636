"""The best student by dev nDCG@10 is kept, through kills, and training stops when none is better."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from pipelines.checkpoints.files import METRICS, MODEL, OBJECTIVE
from pipelines.evaluation.metrics import per_query
from pipelines.students.data.dev_set import DevSet
from pipelines.students.training.choosing import dev_ndcg, ndcg_at_10
from pipelines.students.training.encoder import RankEncoder
from pipelines.students.training.loop import STATE, TrainingSummary
from pipelines.students.training.sinks import Line
from pipelines.students.training_config import TrainingConfig
from tests.tiny_training import SETTINGS, Killed, steps_saved, weights_of

EVERY = {"dev_every_steps": 3, "warmup_share": 0.0, "margin_scale": "fitted"}
TOO_HIGH = (0.3, 1.0, 0.1, 3.0)  # learning rates that spoil a student: the best one is not the last


class Chosen(NamedTuple):
    """An undisturbed run that chooses."""

    config: dict[str, Any]
    folder: Path
    summary: TrainingSummary
    student: SentenceTransformer
    lines: list[Line]


@pytest.fixture(scope="module")
def chosen(setting, tmp_path_factory):
    """The first of some runs whose best student is not the last one."""
    for learning_rate in TOO_HIGH:
        config, folder = EVERY | {"learning_rate": learning_rate}, tmp_path_factory.mktemp("chosen")
        run = Chosen(config, folder, *setting.train(folder, **config))
        if run.summary.dev["step"] < run.summary.steps:
            return run
    raise AssertionError(f"with each of {TOO_HIGH} the last student is the best")


def measured(lines):
    """Steps done -> dev nDCG@10."""
    return {line["step"] + 1: line["dev_ndcg_at_10"] for line in lines if "dev_ndcg_at_10" in line}


def test_ndcg_is_ir_measures_own_left_out():
    random = np.random.default_rng(0)
    relevant = np.unique(random.integers(0, [6, 40], (60, 2)), axis=0).astype(np.int32)
    relevant = np.concatenate([relevant, [[query, 41] for query in range(6)]]).astype(np.int32)
    own = np.array([[0, 3], [2, 7]], np.int32)
    own = own[[not (relevant == pair).all(axis=1).any() for pair in own]]
    positions = np.stack([random.permutation(42)[:12] for _ in range(6)])

    found = ndcg_at_10(positions, DevSet("made up", 6, None, relevant, own))

    qrels = {str(query): {str(one): 1 for one in relevant[relevant[:, 0] == query, 1]} for query in range(6)}
    kept = {query: [one for one in positions[query] if [query, one] not in own.tolist()] for query in range(6)}
    values = per_query(qrels, {str(query): list(map(str, ranked)) for query, ranked in kept.items()})
    assert found == pytest.approx(values.filter(metric="nDCG@10")["value"].mean(), abs=1e-12)


def test_the_best_step_is_told_and_its_student_is_the_model(setting, chosen):
    folder, summary, values = chosen.folder, chosen.summary, measured(chosen.lines)

    assert list(values) == [3, 6, 9, 12, 15, 18, 20]
    best = max(values, key=values.get)
    assert (summary.dev["step"], summary.dev["dev_ndcg_at_10"]) == (best, values[best])
    assert (summary.dev["evaluations"], summary.dev["stopped_early"], summary.steps) == (7, False, 20)
    saved = SentenceTransformer(str(folder / "step_20" / MODEL), device="cpu")
    setting.train(folder / "again", **chosen.config, checkpoint_every_steps=best)
    state = torch.load(folder / "again" / f"step_{best}" / STATE)
    weights = {f"student.{name}": weight for name, weight in saved.state_dict().items()}  # and BERT's pooler, unused
    assert all(torch.equal(weights[name], weight) for name, weight in state["model"].items())
    fitted = load_file(folder / "step_20" / OBJECTIVE)
    assert fitted.keys() == {name.removeprefix("terms.") for name in state["objective"]} != set()
    assert all(torch.equal(fitted[name.removeprefix("terms.")], value) for name, value in state["objective"].items())


def test_the_value_is_the_mean_over_the_dimensions_of_what_exact_search_finds(setting, chosen):
    (line,) = [line for line in chosen.lines if line["step"] + 1 == chosen.summary.dev["step"]]

    dev = DevSet.open(Path(setting.dev))
    encoder = RankEncoder(chosen.student, dev.texts, TrainingConfig(**SETTINGS), torch.device("cpu"))
    by_dimension = dev_ndcg(dev, encoder, (32, 8))
    assert by_dimension == {32: line["dev_ndcg_at_10_dim_32"], 8: line["dev_ndcg_at_10_dim_8"]}
    assert line["dev_ndcg_at_10"] == np.mean(list(by_dimension.values()))


def test_a_dev_set_is_embedded_alike_with_padding_and_without(setting):
    texts = DevSet.open(Path(setting.dev)).texts
    padded, unpadded = (
        RankEncoder(setting.student(), texts, TrainingConfig(**SETTINGS | {"unpadded": one}), torch.device("cpu"))
        for one in (False, True)
    )

    assert unpadded.module.is_unpadded
    torch.testing.assert_close(padded.encode(texts), unpadded.encode(texts))


def test_measuring_changes_nothing_of_what_is_learned(setting, chosen, tmp_path):
    for dropout in (0.0, 0.1):
        plain = chosen.config | {"dropout": dropout}
        _, _, without = setting.train(tmp_path / f"without_{dropout}", **(plain | {"dev_every_steps": None}))
        _, _, lines = setting.train(tmp_path / f"with_{dropout}", **plain)

        assert [line["loss"] for line in lines] == [line["loss"] for line in without]


@pytest.mark.parametrize("killed_at", [8, 16, 19])
def test_a_killed_run_chooses_as_if_it_had_not_been(setting, chosen, tmp_path, killed_at):
    with pytest.raises(Killed):
        setting.train(tmp_path, **chosen.config, kill_at_step=killed_at)
    last = max(steps_saved(tmp_path))

    summary, student, _ = setting.train(tmp_path, **chosen.config, resume_from=tmp_path / f"step_{last}")

    assert torch.equal(weights_of(student), weights_of(chosen.student))
    told = [{name: value for name, value in one.dev.items() if name != "seconds"} for one in (summary, chosen.summary)]
    assert told[0] == told[1]
    metrics = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert measured(metrics) == measured(chosen.lines)


def test_a_run_killed_before_its_first_evaluation_goes_on(setting, tmp_path):
    late = {"dev_every_steps": 9, "checkpoint_every_steps": 4}
    whole, student, _ = setting.train(tmp_path / "whole", **late)
    with pytest.raises(Killed):
        setting.train(tmp_path / "killed", **late, kill_at_step=5)

    summary, resumed, _ = setting.train(tmp_path / "killed", **late, resume_from=tmp_path / "killed" / "step_4")

    assert torch.equal(weights_of(resumed), weights_of(student))
    assert summary.dev["step"] == whole.dev["step"]


def test_training_stops_after_so_many_evaluations_without_a_better_one_also_when_it_goes_on_there(setting, tmp_path):
    still = {"dev_every_steps": 2, "early_stop_after": 3, "learning_rate": 1e-12}

    summary, student, lines = setting.train(tmp_path, **still)

    assert (summary.steps, len(lines), summary.dev["step"], summary.dev["stopped_early"]) == (8, 8, 2, True)
    assert steps_saved(tmp_path) == [7, 8]
    again, resumed, more = setting.train(tmp_path, **still, resume_from=tmp_path / "step_8")
    assert (again.steps, more) == (8, [])
    assert torch.equal(weights_of(resumed), weights_of(student))
