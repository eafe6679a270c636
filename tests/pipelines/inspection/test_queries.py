"""The models with their figures; SQL itself is asked through the command line in tests/jobs/test_command_line.py."""

import pytest

from pipelines.inspection.queries import leaderboard
from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, new_version
from schemas import Evaluations, Models
from tests.rows import frame_of


@pytest.fixture
def tables(tmp_path):
    """Two models: `a` with figures at two dimensions, `b` without any."""
    root = Tables.at(str(tmp_path / "tables"))
    rows = frame_of(Models, *({"model_id": f"{name}@{'0' * 12}", "name": name} for name in ("b", "a")))
    with new_version(root, Models, Lineage("distill", [], Config())) as models:
        models.write(rows)
    return root


def evaluated(tables, *rows):
    columns = ("query_id", "dimension", "metric", "value")
    values = frame_of(
        Evaluations,
        *(dict(zip(columns, row, strict=True)) for row in rows),
        model_id=f"a@{'0' * 12}",
        data_set="pets",
    )
    with new_version(tables, Evaluations, Lineage("evaluate", [], Config())) as evaluations:
        evaluations.write(values)


def test_each_model_has_its_mean_ndcg_per_dimension_widest_first_and_none_is_left_out(tables):
    evaluated(
        tables,
        ("q1", 8, "nDCG@10", 0.25),
        ("q2", 8, "nDCG@10", 0.5),
        ("q1", 32, "nDCG@10", 1.0),
        ("q1", 32, "R@100", 0.0),
    )

    shown = leaderboard(tables).select("model_id", "data_set", "dimension", "nDCG@10").rows()

    assert shown == [
        (f"a@{'0' * 12}", "pets", 32, 1.0),
        (f"a@{'0' * 12}", "pets", 8, 0.375),
        (f"b@{'0' * 12}", None, None, None),
    ]


def test_before_any_evaluation_the_models_stand_alone(tables):
    shown = leaderboard(tables)

    assert sorted(shown["model_id"]) == [f"a@{'0' * 12}", f"b@{'0' * 12}"]
    assert "nDCG@10" not in shown.columns
