"""Models copied from an object store."""

from pathlib import Path

import pytest
from pyarrow import fs

from pipelines.checkpoints.fetch import copy_once
from pipelines.checkpoints.name import weights_sha256
from pipelines.stage.errors import UserError
from tests.tiny import tiny_cross_encoder


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

    with pytest.raises(UserError, match="found 1 files, none of a model"):
        copy_once(fs.LocalFileSystem(), str(tmp_path / "notes"), tmp_path / "cache", "s3://bucket/notes")
    with pytest.raises(UserError, match="cannot be listed"):
        copy_once(fs.LocalFileSystem(), str(tmp_path / "missing"), tmp_path / "cache", "s3://bucket/missing")
