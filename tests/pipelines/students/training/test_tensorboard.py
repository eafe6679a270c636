"""TensorBoard's files hold each step once, also of a run that went on, and a run's whole metrics at its end."""

import json
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from pipelines.checkpoints.run_folder import METRICS
from pipelines.students.training.tensorboard import EventFiles, write_events


def line(step, **more):
    return {"step": step, "epoch": 0, "loss": 1.5 - step, "vectors": 0.5, "learning_rate": 1e-3, "grad_norm": None,
            "queries_per_s": 100.0, "seconds": 2.0 * step, **more}  # fmt: skip


def read(folder):
    """(tag, step, value) of all event files of a folder, as they stand there: TFRecords of `Event`."""
    found = []
    for path in folder.glob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return found


def test_every_number_of_a_step_has_its_chart(tmp_path):
    sink = EventFiles(tmp_path)
    sink.start(0, 1, resume_from=None)
    sink.step(line(7, dev_ndcg_at_10=0.25, padding_share=0.125))
    sink.end()

    assert read(tmp_path) == [
        ("loss/total", 7, -5.5),
        ("loss/vectors", 7, 0.5),
        ("training/learning_rate", 7, pytest.approx(1e-3)),
        ("speed/queries_per_s", 7, 100.0),
        ("speed/seconds", 7, 14.0),
        ("dev/ndcg_at_10", 7, 0.25),
        ("training/padding_share", 7, 0.125),
    ]


def test_no_step_stands_twice_after_a_run_went_on(tmp_path):
    checkpoint, events = tmp_path / "checkpoint", tmp_path / "events"
    checkpoint.mkdir()
    (checkpoint / METRICS).write_text("".join(json.dumps(line(step)) + "\n" for step in range(2)))
    killed = EventFiles(events)
    killed.start(0, 4, resume_from=None)
    for step in range(3):
        killed.step(line(step))
    killed.end()

    sink = EventFiles(events)
    sink.start(2, 4, resume_from=checkpoint)
    for step in (2, 3):
        sink.step(line(step))
    sink.end()

    assert [step for tag, step, _ in read(events) if tag == "loss/total"] == [0, 1, 2, 3]
    write_events(events, checkpoint / METRICS)
    assert [step for tag, step, _ in read(events) if tag == "loss/total"] == [0, 1]
