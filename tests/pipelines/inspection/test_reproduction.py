"""Before a model is made again: is its data the same, and what else could change the weights?"""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.inspection.reproduction import (
    BEGUN,
    CHANGED,
    Recorded,
    changed_since_begun,
    differences,
    distance,
    recorded_run,
)
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.storage import Lineage, Tables, new_version
from pipelines.storage.lineage import code, engine
from schemas import Triplets
from tests.rows import frame_of

RUN = {"engine": engine().model_dump(), "code": code().model_dump(), "vectors": None}


def write_table(root: Path) -> Tables:
    tables = Tables.at(str(root))
    with new_version(tables, Triplets, Lineage("ingest", [], Config())) as writer:
        writer.write(frame_of(Triplets))
    return tables


def test_the_same_place_and_software_leave_nothing_to_say():
    assert list(differences(RUN)) == []


@pytest.mark.parametrize(
    ("part", "key", "value", "told"),
    [
        ("engine", "processor", "abacus", "the processor was 'abacus'"),
        ("engine", "python", "2.7.18", "Python was 2.7.18"),
        ("code", "sources_digest", "0123456789ab", "the sources were 0123456789ab"),
    ],
)
def test_what_differs_is_named(part, key, value, told):
    then = copy.deepcopy(RUN)
    then[part][key] = value

    (difference,) = differences(then)
    assert difference.startswith(told)


def test_another_library_version_comes_with_the_way_back():
    then = copy.deepcopy(RUN)
    then["engine"]["libraries"]["torch"] = "1.0.0"

    (difference,) = differences(then)
    assert "to go back: pip install torch==1.0.0" in difference


def test_what_changed_before_a_killed_training_went_on_is_told_and_told_again_by_its_record(tmp_path, capsys):
    kept = Tables.at(str(tmp_path))
    assert changed_since_begun(kept) == changed_since_begun(kept) == []
    begun = json.loads((tmp_path / BEGUN).read_text())
    begun["engine"]["libraries"]["torch"] = "1.0.0"
    (tmp_path / BEGUN).write_text(json.dumps(begun))

    (changed,) = changed_since_begun(kept)

    assert changed.startswith("torch was 1.0.0, is ")
    assert "since this training began, torch was 1.0.0" in capsys.readouterr().err
    assert list(differences(RUN | {CHANGED: [changed]})) == [f"while it was trained, {changed}"]


def test_a_table_made_anew_is_refused(tmp_path):
    before, anew = write_table(tmp_path / "before"), write_table(tmp_path / "anew")
    recorded = Recorded({"curated": before.latest("triplets").identity(), "vectors": None}, "model")

    assert recorded.version(before, "curated") == before.latest("triplets")
    assert recorded.version(before, "vectors") is None
    with pytest.raises(UserError, match="the table was made anew"):
        recorded.version(anew, "curated")


def test_a_published_folder_and_a_name_give_the_same_record(tmp_path):
    tables = write_table(tmp_path / "tables")
    trained = Path(tables.path("models", "small"))
    trained.mkdir(parents=True)
    (trained / "run.json").write_text(json.dumps({"seed": 3}))
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "manifest.json").write_text(json.dumps({"run": {"seed": 3}}))

    assert recorded_run(tables, "small").run == recorded_run(tables, str(tmp_path / "published")).run == {"seed": 3}
    with pytest.raises(UserError, match="neither a trained model under"):
        recorded_run(tables, "other")
    with pytest.raises(UserError, match="File name too long"):
        recorded_run(tables, "x" * 300)


def test_distance_is_zero_for_equal_bytes_else_the_largest_gap(tmp_path):
    folders = [tmp_path / name for name in ("a", "same", "near", "other")]
    weights = [torch.ones(3), torch.ones(3), torch.tensor([1.0, 1.25, 1.0]), torch.ones(4)]
    for folder, weight in zip(folders, weights, strict=True):
        folder.mkdir()
        save_file({"weight": weight}, folder / "model.safetensors")

    assert [distance(folders[0], folder) for folder in folders[1:3]] == [0.0, 0.25]
    with pytest.raises(UserError, match="not the same weights"):
        distance(folders[0], folders[3])
