"""Training stages in a recipe: what they share, what each has of its own, and what is refused by name."""

import subprocess
import sys

import pytest

from jobs.recipe import is_of, load_recipe
from pipelines.stage.errors import UserError

STAGED = """
[distill]
margin_mse = 0.0
epochs = 2

[[distill.stages]]
name = "vectors"
vectors = 1.0
epochs = 3

[[distill.stages]]
info_nce = 1.0
curated_version = 3
"""


@pytest.fixture
def load(tmp_path):
    """The distill part of the staged recipe with some values set."""
    path = tmp_path / "staged.toml"
    path.write_text(STAGED)
    return lambda *overrides: load_recipe(str(path), list(overrides)).distill


def test_a_stage_is_distills_own_fields_and_what_differs(load):
    config = load()

    assert [(stage.epochs, stage.vectors, stage.info_nce) for stage in config.training_stages()] == [
        (3, 1.0, 0.0),
        (2, 0.0, 1.0),
    ]
    assert config.model_dump(mode="json")["stages"] == [
        {"name": "vectors", "vectors": 1.0, "epochs": 3},
        {"name": "stage_2", "info_nce": 1.0, "curated_version": 3},
    ]


@pytest.mark.parametrize(
    ("override", "epochs"),
    [
        ("distill.epochs=7", [3, 7]),  # of every stage that has none of its own
        ("distill.stages.1.epochs=7", [3, 7]),
        ("distill.stages.vectors.epochs=7", [7, 2]),
        ("distill.stages.stage_2.epochs=7", [3, 7]),
        ("distill.stages=[{vectors=1.0, epochs=7}]", [7]),
    ],
)
def test_one_value_is_set_for_all_stages_or_for_one(load, override, epochs):
    assert [stage.epochs for stage in load(override).training_stages()] == epochs


REFUSED = {
    "distill.stages.1.learning_rat=1": r"distill\.stages\.1\.learning_rat is no key; expected one of .*, name, cur",
    "distill.stages.1.learning_rate=-1": r"distill\.stages\.1\.learning_rate = -1: Input should be greater than 0",
    "distill.stages.vectors.vectors=0": r"distill\.stages\.0: the weights of .* are all 0",
    "distill.stages.0.dimensions=[3]": r"stages\.0\.dimensions = \[3\]: is of the whole model.*as distill\.dimensions",
    "distill.stages.0.max_tokens=3": r"stages\.0\.max_tokens = 3: is of the whole model.*as distill\.max_tokens",
    "distill.stages.0.dropout=0.1": "is of the whole model",
    "distill.stages.last.epochs=1": "there is no last among them; expected one of 0, 1, vectors, stage_2",
    "distill.stages.1=1": "stages holds no fields",
    "distill.stages=1": r"distill\.stages = 1: ",
    "distill.stages=[1]": r"distill\.stages\.0 = 1: ",
    "distill.stages=[]": "the weights of .* are all 0",
    "distill.stages.1.name=vectors": "the stages are called vectors, vectors, expected a name of its own for each",
    "distill.stages.1.name=1": r"distill\.stages\.1\.name = 1: ",
    "distill.stages.1.curated_version=-1": "greater than or equal to 0",
}


@pytest.mark.parametrize(("override", "message"), REFUSED.items())
def test_what_is_wrong_in_a_stage_is_refused_by_its_place(load, override, message):
    with pytest.raises(UserError, match=message):
        load(override)


def test_a_recipe_is_read_without_ray_and_torch():
    """Every command reads one: what they need of these, they import where they need it."""
    script = "import sys, jobs.recipe; print(sorted({'ray', 'torch', 'transformers'} & sys.modules.keys()))"

    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_a_refused_url_is_shown_without_its_secret():
    for url in ("http://me:hunter2@host/v1", "http://host/v1?key=hunter2"):
        with pytest.raises(UserError, match=r"generate.endpoint = .*\*\*\*") as raised:
            load_recipe("quickstart", [f"generate.endpoint={url}"])
        assert "hunter2" not in str(raised.value)


def test_a_recorded_recipe_is_the_same_with_a_field_that_came_since_and_another_with_a_value_that_changed(
    load, tmp_path
):
    recipe = load_recipe(str(tmp_path / "staged.toml"), [])
    recorded = recipe.model_dump(mode="json")
    assert is_of(recorded, recipe)
    del recorded["distill"]["start_share"]
    assert is_of(recorded, recipe)
    assert not is_of(recorded | {"score": {"max_tokens": 64}}, recipe)
    assert not is_of(recorded | {"gone": {}}, recipe)
    assert not is_of(None, recipe)
