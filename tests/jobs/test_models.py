"""The leaderboard as a user sees it: a table, whole as JSON, refused where there is nothing."""

import json

import pytest

from jobs.models import main
from jobs.options import RootOptions
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version
from schemas import Evaluations, Models
from tests.rows import frame_of


@pytest.fixture
def root(tmp_path):
    """Two models with dev values, one of which was evaluated."""
    tables = Tables.at(str(tmp_path / "tables"))
    ids = [f"{name}@{'0' * 12}" for name in ("small", "other")]
    known = [
        {"model_id": one, "recipe": "{}", "dev_ndcg_at_10": 0.5, "dev_set": "curated_triplets@0/dev"} for one in ids
    ]
    with new_version(tables, Models, Lineage("distill", [], Config())) as models:
        models.write(frame_of(Models, *known))
    with new_version(tables, Evaluations, Lineage("evaluate", [], Config())) as evaluations:
        evaluations.write(frame_of(Evaluations, model_id=ids[0], data_set="pets", metric="nDCG@10", value=0.75))
    return RootOptions(tables=tables.uri)


def test_the_table_is_the_result_and_the_choice_on_dev_is_told_beside_it(root, capsys):
    main(root=root)

    out, err = capsys.readouterr()
    assert out.startswith("pets: 1 query\n  model")
    assert max(map(len, out.splitlines())) <= 100
    assert [line.split()[0] for line in out.splitlines()[2:4]] == [f"{name}@{'0' * 12}" for name in ("small", "other")]
    assert err == f"best on curated_triplets@0/dev: other@{'0' * 12}, nDCG@10 0.500\n"


def test_json_has_every_column(root, capsys):
    main(root=root, on="pets", as_json=True)

    first, second = json.loads(capsys.readouterr().out)
    assert (first["nDCG@10"], first["data_set"], second["nDCG@10"]) == (0.75, "pets", None)
    assert {"curated_version", "vectors_version", "config_fingerprint", "steps", "dev_set"} <= first.keys()


def test_without_models_the_command_that_makes_one_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no model under .*; run `python -m jobs distill` first"):
        main(root=RootOptions(tables=str(tmp_path / "none")))
