"""What `score.precision` auto is: what the teacher has scored with in this root, else what the driver finds fastest."""

import pytest

from pipelines.scoring.config import ScoreConfig
from pipelines.scoring.precision import settled
from pipelines.storage import Lineage, Tables, new_version
from pipelines.storage.commits import ScoringResult
from pipelines.teachers.config import name_teacher
from schemas import ScoredTriplets
from tests.scored_versions import scored_rows, write_triplets
from tests.tiny import tiny_cross_encoder

ROWS = [("query", "a", 5.0, "b", -5.0)]


@pytest.fixture
def tables(tmp_path):
    return Tables.at(str(tmp_path / "tables"))


@pytest.fixture(scope="module")
def auto(tmp_path_factory):
    return ScoreConfig(teacher=str(tiny_cross_encoder(tmp_path_factory.mktemp("judge") / "judge")), max_tokens=64)


def not_asked():
    raise AssertionError("nothing is left to decide: Ray need not start")


def scored_with(tables, config):
    triplets = tables.latest("triplets") or write_triplets(tables, scored_rows(ROWS))
    with new_version(tables, ScoredTriplets, Lineage("score", [triplets], config)) as scored:
        scored.write(scored_rows(ROWS, teacher=name_teacher(config)))
        scored.result = ScoringResult(teacher=name_teacher(config))


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_a_precision_that_is_named_stays(tables, auto, precision):
    named = auto.model_copy(update={"precision": precision})

    assert settled(named, tables, not_asked) == named


def test_a_root_goes_on_with_what_this_teacher_scored_with_last(tables, auto, tmp_path):
    other = auto.model_copy(update={"teacher": str(tiny_cross_encoder(tmp_path / "other", seed=1))})
    for precision in ("bf16", "float32", "bf16", "fp16"):
        scored_with(tables, auto.model_copy(update={"precision": precision}))
    scored_with(tables, other.model_copy(update={"precision": "float32"}))

    assert settled(auto, tables, not_asked).precision == "bf16"
    assert settled(other, tables, not_asked).precision == "float32"


def test_a_dry_run_leaves_it_open(tables, auto, capsys):
    assert settled(auto, tables, None).precision == "float32"
    assert "whether it is bf16 or float32, the run decides" in capsys.readouterr().err


@pytest.mark.usefixtures("ray_cluster")
def test_a_root_without_scores_asks_once_what_is_there(tables, auto, capsys):
    asked = []

    taken = settled(auto, tables, lambda: asked.append(True))

    assert (taken.precision, len(asked)) == ("float32", 1)  # so narrow a teacher is not measured
    assert "computes in float32 (score.precision is auto)" in capsys.readouterr().err
