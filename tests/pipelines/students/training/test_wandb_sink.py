"""Trainings in Weights & Biases, offline: what stands in the run's own file, also after a kill."""

import json
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipelines.checkpoints.name import weights_sha256
from pipelines.checkpoints.run_folder import METRICS, MODEL
from pipelines.stage.errors import UserError
from pipelines.students.place import Place
from pipelines.students.training.sinks import Training
from pipelines.students.training.wandb_sink import WandbSink
from tests.heard_trainings import STEPS, Trainings, finish, kill, wait

BLOCK = 32_768
needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed: pip install wandb")


def test_without_a_folder_that_stays_it_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DIR", raising=False)

    with pytest.raises(UserError, match="WANDB_DIR is not set here; expected a folder that stays"):
        WandbSink(Training("small", {})).start(0, 1, None)


def records(run: Path) -> Iterator[Any]:
    """The records of a run's folder: protobuf, in the log format of LevelDB behind seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = run.glob("*.wandb")
    data, at, whole = file.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(whole)
            whole = b""


def history(run: Path) -> list[dict[str, Any]]:
    """By step what was logged."""
    items = [record.history.item for record in records(run) if record.HasField("history")]
    return [{(one.key or one.nested_key[0]): json.loads(one.value_json) for one in item} for item in items]


def line(step: int) -> dict[str, Any]:
    return {"stage": "weak", "step": step, "loss": 1 / (step + 1), "seconds": step + 1.0}


@pytest.mark.slow
@needs_wandb
def test_a_training_of_two_stages_that_was_killed_is_one_run_with_each_step_once(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DIR", raising=False)
    checkpoint, folder = tmp_path / "checkpoint", tmp_path / "models/small"
    checkpoint.mkdir()
    folder.mkdir(parents=True)
    weak, strong = (
        Training("small", {"epochs": n}, {"curated.version": f"curated_triplets@{n}"}, Place(name, n, 2), name, folder)
        for n, name in ((1, "weak"), (2, "strong"))
    )
    sink = WandbSink(weak)
    sink.start(0, 3, None)
    for step in range(3):
        sink.step(line(step))
    sink.save(checkpoint)
    sink.finish(lambda to: pytest.fail("the model is the last stage's"))
    sink.end()
    (checkpoint / METRICS).write_text("".join(json.dumps(line(step)) + "\n" for step in range(3)))
    killed = WandbSink(strong)
    killed.start(0, 3, checkpoint)
    killed.step(line(3))
    killed.save(checkpoint)
    killed._run.finish(exit_code=1)  # a kill keeps less
    sink = WandbSink(strong)
    sink.start(0, 3, checkpoint)
    for step in (3, 4):
        sink.step(line(step))
    sink.finish(lambda to: (to.mkdir(), (to / "weights").write_text("w")))
    sink.end()

    (run,) = folder.glob("wandb/offline-run-*")
    wait(lambda: any(record.HasField("exit") for record in records(run)))  # three runs of one process share a writer
    assert [(told["_step"], told["loss"]) for told in history(run)] == [(step, 1 / (step + 1)) for step in range(5)]
    began, *_, ended = (told["_timestamp"] for told in history(run)[:3])
    assert ended - began == pytest.approx(2.0)  # as long as their steps took
    (begun,) = (record.run for record in records(run) if record.HasField("run"))
    config = {one.key: json.loads(one.value_json) for one in begun.config.update}
    assert (begun.run_id, config["weak.epochs"], config["strong.epochs"]) == ("weak", 1, 2)
    assert config["strong.data"] == {"curated.version": "curated_triplets@2"}
    (artifact,) = (record.artifact for record in records(run) if record.HasField("artifact"))
    assert [one.path for one in artifact.manifest.contents] == ["weights"]


@pytest.mark.slow
@needs_wandb
def test_a_killed_command_goes_on_in_one_offline_run_and_to_the_same_weights(tmp_path):
    trainings = Trainings(tmp_path, WANDB_DIR="")
    finish(trainings.start("unheard"))
    training = trainings.start("small", "wandb")
    wait(lambda: trainings.last_checkpoint("small") >= 20, training)
    kill(training)
    told = finish(trainings.start("small", "wandb"))

    assert "failed" not in told
    (run,) = trainings.folder("small").glob("wandb/offline-run-*")
    assert [line["_step"] for line in history(run)] == list(range(STEPS))
    (artifact,) = (record.artifact for record in records(run) if record.HasField("artifact"))
    assert "model.safetensors" in [one.path for one in artifact.manifest.contents]
    assert artifact.name == "small"
    weights = {name: weights_sha256(trainings.folder(name) / MODEL) for name in ("small", "unheard")}
    assert weights["small"] == weights["unheard"]
