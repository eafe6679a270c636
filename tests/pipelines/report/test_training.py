"""Training curves: every step of a short training, means of a long one, and a reason where there are none."""

import json

import pytest

from pipelines.report.training import POINTS, training_curves
from pipelines.storage import Tables


@pytest.fixture
def written(tmp_path):
    """Write the lines of models/small/metrics.jsonl, and read its curves."""
    tables = Tables.at(str(tmp_path / "tables"))
    folder = tmp_path / "tables" / "models" / "small"
    folder.mkdir(parents=True)

    def write(lines):
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return training_curves(tables, "small")

    return write


def test_terms_are_what_is_no_known_measure_and_every_step_of_a_short_training_is_a_point(written):
    lines = [
        {"stage": "one", "step": step, "loss": 2.0 - step, "kl": 1.0, "grad_norm": 3.0, "texts": 4} for step in (0, 1)
    ]
    lines += [{"stage": "two", "step": 2, "loss": 0.5, "info_nce": 0.5, "grad_norm": 3.0, "dev_ndcg_at_10": 0.25}]
    curves = written(lines)

    assert (curves.steps, set(curves.terms)) == (3, {"kl", "info_nce"})
    assert curves.of("loss").select("step", "stage", "value").rows() == [
        (0, "one", 2.0),
        (1, "one", 1.0),
        (2, "two", 0.5),
    ]
    assert curves.of("dev_ndcg_at_10").select("step", "value").rows() == [(2, 0.25)]
    assert curves.of("texts").is_empty()


def test_a_long_training_is_a_few_hundred_means(written):
    curves = written({"step": step, "loss": float(step)} for step in range(10 * POINTS))

    assert curves.of("loss").height == POINTS
    assert curves.of("loss")["value"][0] == 4.5
    assert curves.stages == ("stage_1",)


def test_without_lines_the_reason_is_told(written, tmp_path):
    assert "is no file of steps" in written([])
    assert "has no step" in written([{"loss": 1.0}])
    assert "has no step" in written([{"step": "a", "loss": "b", "stage": 5, "seconds": "x"}])
    assert written([{"step": 1, "loss": 2.0, "stage": 5}]).stages == ("5",)
    (tmp_path / "tables" / "models" / "small" / "metrics.jsonl").write_text("{broken")
    assert "is no file of steps" in training_curves(Tables.at(str(tmp_path / "tables")), "small")
    assert "is not there any more" in training_curves(Tables.at(str(tmp_path / "tables")), "other")
