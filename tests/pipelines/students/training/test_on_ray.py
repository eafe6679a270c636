"""What a run chose for itself when it began, it keeps: a resume and a reproduction take what was recorded."""

import json
from pathlib import Path

import pytest

from pipelines.checkpoints.run_folder import CHECKPOINTS, ENGINE, UNTRAINED
from pipelines.storage import Tables
from pipelines.students.config import DistillConfig
from pipelines.students.training import on_ray
from pipelines.students.training.on_ray import settled

AUTO = DistillConfig(use_gpu=False)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A work folder with an untrained student, on a machine where bf16 is measured faster."""
    (tmp_path / UNTRAINED).mkdir()
    (tmp_path / UNTRAINED / "config.json").write_text(json.dumps({"hidden_size": 8, "intermediate_size": 16}))
    monkeypatch.setattr(on_ray, "fastest_on_cpu", lambda width, intermediate_width, threads: "bf16")
    return Tables(str(tmp_path))


def chosen(config):
    return config.precision, config.unpadded


def test_auto_is_measured_once_and_kept_for_the_run(kept, monkeypatch):
    assert chosen(settled(AUTO, kept)) == ("bf16", True)
    monkeypatch.setattr(on_ray, "fastest_on_cpu", lambda *_, **__: "float32")

    assert chosen(settled(AUTO, kept)) == ("bf16", True)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"precision": "float32"}, ("float32", True)),
        ({"precision": "fp16"}, ("fp16", True)),
        ({"precision": "float32", "unpadded": False}, ("float32", False)),
        ({"unpadded": False}, ("bf16", False)),
    ],
)
def test_what_is_asked_for_is_taken(kept, asked, expected):
    assert chosen(settled(AUTO.model_copy(update=asked), kept)) == expected


def test_a_run_that_an_older_commit_began_goes_on_as_that_did(kept):
    Path(kept.uri, CHECKPOINTS, "checkpoint_1").mkdir(parents=True)

    assert chosen(settled(AUTO, kept)) == ("float32", False)
    assert json.loads(Path(kept.uri, ENGINE).read_text()) == {"precision": "float32", "unpadded": False}


def test_an_older_run_s_record_means_what_it_meant():
    recorded = DistillConfig().model_dump(mode="json", exclude={"unpadded"})

    assert chosen(DistillConfig.of_run(recorded, on_gpu=False)) == ("float32", False)
    assert chosen(DistillConfig.of_run(recorded, on_gpu=True)) == ("bf16", False)
    assert chosen(DistillConfig.of_run(recorded | {"precision": "bf16", "unpadded": True}, on_gpu=False)) == (
        "bf16",
        True,
    )
