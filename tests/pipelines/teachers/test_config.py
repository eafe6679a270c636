"""A teacher's config and its name: what the hex covers, and that it never moves for the same files and settings."""

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.recipe import load_recipe
from pipelines.stage.errors import UserError
from pipelines.teachers.config import TeacherConfig, load_teacher, name_teacher, teacher_name
from tests.tiny import tiny_bi_encoder, tiny_cross_encoder


@pytest.fixture(scope="module")
def hand_made(tmp_path_factory) -> str:
    """A folder whose every byte is written here, so that its name depends on no library."""
    folder = tmp_path_factory.mktemp("models") / "hand made"
    header = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path}
               for kind, path in [("Transformer", ""), ("Pooling", "1_Pooling")]]  # fmt: skip
    files = {
        "config.json": b'{"model_type": "bert"}',
        "tokenizer.json": b"{}",
        "model-00001-of-00002.safetensors": len(header).to_bytes(8, "little") + header + bytes([0] * 4),
        "model-00002-of-00002.safetensors": len(header).to_bytes(8, "little") + header + bytes([1] * 4),
        "modules.json": json.dumps(modules).encode(),
        "1_Pooling/config.json": b"{}",
        "config_sentence_transformers.json": b'{"prompts": {"query": "q: ", "document": "", "passage": "p: "}}',
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "settings", "name"),
    [
        ("cross_encoder", {}, "hand-made@18092d1e26d8"),
        ("cross_encoder", {"precision": "bf16"}, "hand-made@b8e7e69c8298"),
        ("cross_encoder", {"precision": "fp16"}, "hand-made@7493451dc65d"),
        ("cross_encoder", {"query_prompt": "", "passage_prompt": "x"}, "hand-made@961abeac8beb"),
        ("bi_encoder", {}, "hand-made@aabd57ef94c1"),
        ("bi_encoder", {"precision": "bf16"}, "hand-made@7fb79c3f996d"),
        ("bi_encoder", {"precision": "fp16"}, "hand-made@1cbfcc771917"),
        ("bi_encoder", {"query_prompt": "", "passage_prompt": "x"}, "hand-made@b327b9182fcb"),
    ],
)
def test_the_name_is_that_under_which_scores_were_stored_at_2bb8cc9(hand_made, kind, settings, name):
    assert name_teacher(TeacherConfig(teacher=hand_made, teacher_kind=kind, max_tokens=64, **settings)) == name


def test_weights_other_than_the_recipes_are_refused(hand_made):
    expected = "e0b250d81895b988c0ec229deeed67109e431d9f4289ad340b3eecec0443a631"

    assert name_teacher(TeacherConfig(teacher=hand_made, max_tokens=64, teacher_sha256=expected))
    with pytest.raises(UserError, match=f"its weights have sha256 {expected}, the recipe expects 00"):
        name_teacher(TeacherConfig(teacher=hand_made, max_tokens=64, teacher_sha256="0" * 64))


@pytest.mark.parametrize(
    ("old", "new"), [("float32", "float32"), ("bfloat16", "bf16"), ("float16", "fp16"), ("bf16", "bf16")]
)
def test_recipes_and_commits_that_say_dtype_are_understood(old, new):
    stored = {"teacher": "a", "dtype": old, "chunk_rows": 20_000}

    assert TeacherConfig.part_of(stored) == TeacherConfig(teacher="a", precision=new)
    assert load_recipe("quickstart", [f"score.dtype={old}"]).score.precision == new
    assert load_recipe("quickstart", [f"score.precision={old}"]).score.precision == new


@pytest.mark.parametrize("field", ["dtype", "precision"])
def test_an_unknown_precision_is_refused_with_what_is_allowed(field):
    allowed = "Input should be 'auto', 'float32', 'bf16' or 'fp16'"
    with pytest.raises(UserError, match=f"score.{field} = 'float8': {allowed}"):
        load_recipe("quickstart", [f"score.{field}=float8"])


def test_an_unknown_kind_is_refused_with_what_is_allowed():
    with pytest.raises(ValidationError, match="Input should be 'cross_encoder' or 'bi_encoder'"):
        TeacherConfig(teacher_kind="oracle")


def test_each_kind_is_loaded_by_its_own_class(tmp_path):
    judge, encoder = tiny_cross_encoder(tmp_path / "judge"), tiny_bi_encoder(tmp_path / "encoder")

    loaded = (
        load_teacher(TeacherConfig(teacher=judge, max_tokens=64)),
        load_teacher(TeacherConfig(teacher=encoder, teacher_kind="bi_encoder", max_tokens=64)),
    )

    assert [type(teacher).__name__ for teacher in loaded] == ["CrossEncoderTeacher", "BiEncoderTeacher"]


def test_the_name_covers_what_a_score_means_and_not_where_it_lies(tmp_path):
    folder = tiny_bi_encoder(tmp_path / "encoder", prompts={"query": "q: "})
    moved = str(shutil.copytree(folder, tmp_path / "elsewhere" / "encoder"))

    def name(**settings) -> str:
        chosen = {"teacher": folder, "teacher_kind": "bi_encoder", "max_tokens": 64} | settings
        return teacher_name(Path(chosen["teacher"]), TeacherConfig(**chosen))

    assert name() == name(teacher=moved) == name(query_prompt="q: ")  # the model's own
    others = [name(max_tokens=65), name(query_prompt=""), name(precision="bf16"), name(teacher_kind="cross_encoder")]
    assert len({name(), *others}) == 5


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_the_name_changes_with_weights_tokenizer_and_pooling(tmp_path, file):
    folder = tiny_bi_encoder(tmp_path / "encoder")
    config = TeacherConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64)
    before = teacher_name(Path(folder), config)
    with Path(folder, file).open("ab") as changed:
        changed.write(b" ")

    assert teacher_name(Path(folder), config) != before


def test_the_name_does_not_change_with_a_readme(tmp_path):
    folder = tiny_bi_encoder(tmp_path / "encoder")
    config = TeacherConfig(teacher=folder, teacher_kind="bi_encoder", max_tokens=64)
    before = teacher_name(Path(folder), config)
    Path(folder, "README.md").write_text(json.dumps("more"))

    assert teacher_name(Path(folder), config) == before


def test_either_name_of_the_precision_overrides_the_other(tmp_path):
    for named, other in (("dtype", "precision"), ("precision", "dtype")):
        (tmp_path / "own.toml").write_text(f'[score]\n{named} = "float32"\n')

        assert load_recipe(str(tmp_path / "own.toml"), [f"score.{other}=fp16"]).score.precision == "fp16"
