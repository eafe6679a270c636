"""Kept checkpoints are found again when Ray Train's own list of them is lost."""

import json
from pathlib import Path

import pytest

from pipelines.storage import Tables
from pipelines.students.training.kept import RAYS_LIST, forget_damaged_list, last_whole_checkpoint, list_files


@pytest.fixture
def kept(tmp_path) -> Path:
    """Three checkpoints, the last of them half copied, and a list of the first two."""
    folder = tmp_path / "work" / "checkpoints"
    for number in (1, 2, 3):
        checkpoint = folder / f"checkpoint_{number}"
        (checkpoint / "model").mkdir(parents=True)
        (checkpoint / "state.pt").write_bytes(b"x" * 100)
        (checkpoint / "model" / "config.json").write_text("{}")
        list_files(checkpoint)
    (folder / "checkpoint_3" / "state.pt").write_bytes(b"x" * 50)
    names = [{"checkpoint_dir_name": f"checkpoint_{number}"} for number in (1, 2)]
    (folder / RAYS_LIST).write_text(json.dumps({"checkpoint_results": names}))
    return folder


def found(kept: Path) -> str | None:
    checkpoint = last_whole_checkpoint(Tables.at(str(kept.parent)))
    return checkpoint and Path(checkpoint.path).name


def test_the_newest_whole_checkpoint_is_taken(kept):
    assert found(kept) == "checkpoint_2"
    (kept / "checkpoint_2" / "files.json").write_text('{"state.pt": 1')
    assert found(kept) == "checkpoint_1"
    (kept / "checkpoint_1" / "model" / "config.json").unlink()
    assert found(kept) is None


@pytest.mark.parametrize("content", ["", "{}", '{"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_9"}]}'])
def test_a_list_that_is_none_or_names_what_is_gone_is_forgotten(kept, capsys, content):
    tables = Tables.at(str(kept.parent))
    forget_damaged_list(tables)
    assert (kept / RAYS_LIST).exists()
    (kept / RAYS_LIST).write_text(content)

    forget_damaged_list(tables)

    assert not (kept / RAYS_LIST).exists()
    assert "the list of checkpoints is damaged" in capsys.readouterr().err


def test_a_training_that_never_began_has_neither(tmp_path):
    tables = Tables.at(str(tmp_path / "work"))

    forget_damaged_list(tables)

    assert last_whole_checkpoint(tables) is None
