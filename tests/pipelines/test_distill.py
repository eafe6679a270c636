"""Distilling by name through real Ray Train workers: resumable, refusing what is another's, and traced to its data."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from pipelines import distill
from pipelines.checkpoints.name import weights_sha256
from pipelines.checkpoints.run_folder import IDENTITY, LOCK, RunFolder
from pipelines.curate import CurateConfig
from pipelines.distill import DistillConfig
from pipelines.inspection.reproduction import recorded_run
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.students.checks import check_training
from pipelines.students.data.teacher_vectors import check_vectors, vectors_teachers
from pipelines.students.training.not_finite import NonFinite
from pipelines.students.training.on_ray import _cache_name
from tests.clusters import connected, no_cluster
from tests.heard import heard_file
from tests.tiny import tiny_encoder
from tests.training_data import commit_curated, curated_row, write_curated, write_judged, write_vectors

WIDTH, TEACHER_WIDTH = 32, 48
REPOSITORY = str(Path(__file__).parents[2])
DRIVER = """
import sys, ray
from pipelines import distill
from pipelines.storage import Tables

root, curated, vectors, config = sys.argv[1:]
tables = Tables.at(root)
ray.init(num_cpus=2, include_dashboard=False)
config = distill.DistillConfig.model_validate_json(config)
distill.run(tables.parse(curated), config, name="killed", vectors=tables.parse(vectors), connect=lambda: None)
"""


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Tables with a curated and a vectors version, and a config for them."""
    folder = tmp_path_factory.mktemp("distill")
    tables = Tables.at(str(folder / "tables"))
    curated = write_curated(tables, num_queries=16)
    config = DistillConfig(
        source_model=tiny_encoder(folder / "source", "bert", num_layers=4),
        num_layers=2,
        dimensions=(WIDTH, 8),
        max_tokens=64,
        epochs=1,
        triplets_per_step=12,
        learning_rate=1e-3,
        vectors=0.5,
        vectors_projection=True,
        query_prompt="query: ",
        passage_prompt="",
        max_failures=0,
    )
    return tables, curated, write_vectors(tables, curated, TEACHER_WIDTH), config


@pytest.fixture(scope="module")
def trained(ray_cluster, setting):
    _, curated, vectors, config = setting
    return distill.run(curated, config, name="small", vectors=vectors, connect=connected)


def read_run(tables, name="small"):
    return json.loads(Path(tables.path("models", name, "run.json")).read_text())


def test_model_lies_under_its_name_and_loads_with_its_prompts(setting, trained):
    tables = setting[0]
    model = SentenceTransformer(tables.path("models", "small", "model"), device="cpu")

    assert (model.encode_query("red cat") == model.encode("query: red cat")).all()
    assert sorted(path.name for path in Path(tables.path("models", "small")).iterdir()) == [
        *("identity.json", "metrics.jsonl", "model", "objective.safetensors", "run.json", "tensorboard")
    ]


def test_models_row_names_weights_data_config_and_source(setting, trained):
    tables, curated, vectors, config = setting
    (row,) = trained.scan().collect().to_dicts()

    assert row["weights_sha256"] == weights_sha256(Path(tables.path("models", "small", "model")))
    assert row["model_id"] == f"small@{row['weights_sha256'][:12]}"
    assert (row["curated_version"], row["vectors_version"]) == (str(curated), str(vectors))
    taken = DistillConfig.model_validate_json(row["recipe"])
    assert taken == config.model_copy(update={"precision": taken.precision})
    assert taken.precision in ("float32", "bf16")
    assert row["steps"] == 4
    assert [parent.partition("@")[0] for parent in row["parents"]] == ["source"]
    assert [one.model_dump() for one in trained.commit.inputs] == [curated.identity(), vectors.identity()]


def test_run_file_tells_what_the_training_saw_and_ran_on(setting, trained):
    run = read_run(setting[0])

    assert run["training_data"]["triplets"] == 48
    assert len(run["training_data"]["digest"]) == 64
    assert run["engine"]["workers"] == 1
    assert run["engine"]["threads"] == run["threads_per_worker"] == 1
    assert run["engine"]["device"] == "cpu"
    lines = Path(setting[0].path("models", "small", "metrics.jsonl")).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]


def test_finished_model_is_returned_at_once(setting, trained, capsys):
    _, curated, vectors, config = setting

    left = Path(setting[0].path("models", "small", "ray", "untrained"))  # as of a run that was killed at its very end
    left.mkdir(parents=True)

    assert distill.run(curated, config, name="small", vectors=vectors, connect=no_cluster) == trained
    assert "already trained" in capsys.readouterr().err
    assert not left.parent.exists()


def copied(setting, tmp_path):
    """A copy of the root that a test may write into, its model's folder, and what that records of its run."""
    tables = Tables.at(str(shutil.copytree(setting[0].uri, tmp_path / "tables")))
    folder = RunFolder(tables, "small")
    return tables, folder, folder.read(IDENTITY)


def test_vectors_that_came_since_make_no_other_run(setting, trained, tmp_path):
    _, curated, _, config = setting
    tables, _, _ = copied(setting, tmp_path)
    since = write_vectors(tables, tables.parse(str(curated)), WIDTH, teacher="other@0123456789ab")

    again = distill.run(tables.parse(str(curated)), config, name="small", vectors=since, connect=no_cluster)

    assert str(again) == str(trained)


def test_a_model_begun_before_a_field_had_its_default_is_the_same_run(setting, trained, tmp_path):
    _, curated, vectors, config = setting
    tables, folder, recorded = copied(setting, tmp_path)
    del recorded["config"]["freeze_embeddings"]
    folder.write(IDENTITY, recorded)
    versions = {"curated": tables.parse(str(curated)), "vectors": tables.parse(str(vectors))}

    again = distill.run(config=config, name="small", connect=no_cluster, **versions)

    assert again.num_rows() == 1
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(UserError, match=r"small was begun with config\.seed 0, not 5\. Choose another"):
        distill.run(config=other, name="small", connect=no_cluster, **versions)


def test_a_model_begun_with_fields_of_another_version_is_refused_with_the_difference(setting, trained, tmp_path):
    _, curated, vectors, config = setting
    tables, folder, recorded = copied(setting, tmp_path)
    folder.write(IDENTITY, recorded | {"config": recorded["config"] | {"field_of_another_version": 0.1}})

    with pytest.raises(UserError, match=r"config\.field_of_another_version 0\.1, not None"):
        distill.run(
            tables.parse(str(curated)),
            config,
            name="small",
            vectors=tables.parse(str(vectors)),
            connect=no_cluster,
        )


def test_a_name_whose_run_has_kept_nothing_is_free_for_another(setting, trained, tmp_path):
    _, curated, _, config = setting
    begun, begun_again = {"config": {"seed": 1}}, {"config": {"seed": 2}}
    folder = RunFolder(Tables.at(str(tmp_path)), "begun")
    folder.claim(begun)
    Path(folder.path, "ray", "untrained").mkdir(parents=True)

    folder.claim(begun_again)

    assert folder.read(IDENTITY) == begun_again
    assert not folder.holds("ray")
    Path(folder.path, "ray", "checkpoints", "checkpoint_1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"begun was begun with config\.seed 2, not 1"):
        folder.claim(begun)
    with pytest.raises(UserError, match="small was begun with"):
        distill.run(curated, config.model_copy(update={"vectors": 0.0, "seed": 5}), name="small", connect=no_cluster)


CHANGED = {  # what is another when a training that has a checkpoint is begun again -> what is said of it
    "the recipe": ({"learning_rate": 2e-3, "epochs": 2}, r"config\.epochs 1, not 2; config\.learning_rate 0\.001, not"),
    "the number of workers": ({"num_workers": 2}, r"config\.num_workers 1, not 2"),
    "the threads of a worker": ({"threads_per_worker": 2}, r"config\.threads_per_worker 1, not 2"),
}


@pytest.fixture
def begun(setting, tmp_path):
    """A training that has a checkpoint and went no further, in a root of its own; its arguments, its folder."""
    shutil.copytree(setting[0].uri, tmp_path / "tables")
    tables, config = Tables.at(str(tmp_path / "tables")), setting[3]
    curated, vectors = (tables.latest(name) for name in ("curated_triplets", "teacher_vectors"))
    folder = RunFolder(tables, "begun")
    folder.claim(distill._identity(curated, config, vectors))
    Path(folder.path, "ray", "checkpoints", "checkpoint_1").mkdir(parents=True)
    return {"curated": curated, "config": config, "vectors": vectors, "name": "begun", "connect": no_cluster}, folder


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder.path).rglob("*") if path.is_file()}


@pytest.mark.parametrize(("change", "message"), CHANGED.values(), ids=CHANGED)
def test_a_run_whose_recipe_changed_is_refused_with_the_difference_before_anything_is_written(begun, change, message):
    arguments, folder = begun
    before = files_of(folder)

    with pytest.raises(UserError, match=message):
        distill.run(**arguments | {"config": arguments["config"].model_copy(update=change)})

    assert files_of(folder) == before


def test_a_run_whose_data_or_source_changed_is_refused_with_the_difference(begun, tmp_path):
    arguments, folder = begun
    tables = arguments["curated"].tables
    newer = write_curated(tables, num_queries=16, seed=1)
    with pytest.raises(UserError, match=r"begun with curated.digest .*curated.version curated_triplets@0, not .*@1"):
        distill.run(**arguments | {"curated": newer, "vectors": write_vectors(tables, newer, WIDTH)})
    folder.write("ray/untrained/config.json", {"distilled_from": "source@0123456789ab"})
    with pytest.raises(UserError, match=r"begun was begun from source@0123456789ab, but .*source now is source@"):
        distill.run(**arguments)
    shutil.rmtree(tables.path("teacher_vectors"))
    anew = write_vectors(tables, arguments["curated"], WIDTH)
    with pytest.raises(UserError, match=r"teacher_vectors@0 was of the Delta table .*made anew"):
        distill.run(**arguments | {"vectors": anew})


def test_targets_that_are_not_finite_are_refused_with_their_rows_before_ray(setting, tmp_path):
    tables = Tables.at(str(tmp_path / "tables"))
    broken = curated_row("red cat", "a red cat", "a dog") | {"positive_score": math.inf, "teacher_margin": 1.0}
    curated = commit_curated(tables, [broken, curated_row("blue cat", "a blue cat", "a dog")])
    (triplet_id,) = curated.scan().filter(query="red cat").collect()["triplet_id"]

    with pytest.raises(UserError, match=rf"not finite, expected numbers: {triplet_id}\. To see .*jobs query"):
        distill.run(curated, setting[3].model_copy(update={"vectors": 0.0}), name="early", connect=no_cluster)
    without = {"vectors": 0.0, "where": "query != 'red cat'"}
    check_training(curated, setting[3].model_copy(update=without), None)


def test_a_finished_model_whose_folder_is_gone_is_trained_again(setting, trained, tmp_path, capsys):
    _, curated, vectors, config = setting
    shutil.copytree(setting[0].uri, tmp_path / "tables")
    tables = Tables.at(str(tmp_path / "tables"))
    shutil.rmtree(tables.path("models", "small", "model"))

    again = distill.run(
        tables.parse(str(curated)), config, name="small", vectors=tables.parse(str(vectors)), connect=connected
    )

    assert "is gone: training small again" in capsys.readouterr().err
    assert weights_sha256(Path(tables.path("models", "small", "model"))) == read_run(tables)["weights_sha256"]
    assert again.num_rows() == 1


@pytest.mark.slow
def test_elsewhere_the_same_weights_come_of_rows_that_another_program_put_into_other_files(
    setting, trained, tmp_path, capsys
):
    _, curated, vectors, config = setting
    tables, _, _ = copied(setting, tmp_path)
    for name, column in (("curated_triplets", "query_id"), ("teacher_vectors", "text_id")):
        tables.delta(name).optimize.z_order([column])
        tables.delta(name).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    recorded = recorded_run(tables, "small")

    now_curated, now_vectors = recorded.data(tables)
    again = distill.train(now_curated, config, tmp_path / "again", vectors=now_vectors, connect=connected)

    assert (str(now_curated), str(now_vectors)) == (str(curated), str(vectors))
    assert "the same rows lie in other files now" in capsys.readouterr().err
    assert again["weights_sha256"] == recorded.run["weights_sha256"]
    assert again["training_data"] == recorded.run["training_data"]
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        *("metrics.jsonl", "model", "objective.safetensors", "run.json", "tensorboard")
    ]


def test_data_that_is_gone_is_named_before_anything_starts(setting, trained, tmp_path):
    _, curated, _, config = setting
    tables, _, _ = copied(setting, tmp_path)
    for file in Path(tables.path("curated_triplets")).glob("*.parquet"):
        file.unlink()

    with pytest.raises(UserError, match=r"curated_triplets@0 lacks 1 of its 1 data files"):
        distill.run(tables.parse(str(curated)), config, name="other", connect=no_cluster)
    with pytest.raises(
        UserError, match=r"small was trained on curated_triplets@0, which lacks 1 of its 1 .*made again"
    ):
        recorded_run(tables, "small").data(tables)


def test_name_of_another_run_is_refused_with_what_differs(setting, trained):
    _, curated, vectors, config = setting
    other = config.model_copy(update={"learning_rate": 2e-3})

    with pytest.raises(UserError, match=r"config\.learning_rate 0\.001, not 0\.002\. Choose another --name"):
        distill.run(curated, other, name="small", vectors=vectors, connect=connected)


def test_name_that_is_being_trained_is_refused_and_a_dead_trainers_lock_taken_over(setting):
    folder = RunFolder(setting[0], "locked")
    with folder.lock(), pytest.raises(UserError, match="being trained by another process"), folder.lock():
        pass
    folder.write(LOCK, {"pid": os.getpid(), "host": socket.gethostname(), "started": "1"})  # this pid, used before

    with folder.lock():
        assert folder.read(LOCK)["started"] != "1"
    assert folder.read(LOCK) is None


EARLY = {  # a change of the config -> what is said of it, before Ray starts and before anything is written
    "a dimension above the width": ({"dimensions": (64, 8)}, "dimensions are .64, 8., but the source is 32 wide"),
    "a dimension of nothing": ({"dimensions": (0,)}, "each from 1 to 32"),
    "a dimension twice": ({"dimensions": (8, 8)}, "expected each once"),
    "more layers than there are": ({"num_layers": 5}, "the source has 4 layers"),
    "a layer that is not there": ({"layers": (0, 4)}, "each from 0 to 3"),
    "more tokens than positions": ({"max_tokens": 513}, "at most 512 tokens"),
    "a condition on no column": (
        {"where": "margin > 1"},
        'unable to find column "margin"; it has triplet_id, query_id',
    ),
    "a source that is not there": ({"source_weights": {"faq": 2.0}}, "names faq, but the rows to train on are of the"),
    "scored candidates of no curation": ({"candidates_from": "scored"}, "read and dropped is not known here"),
    "no such source": ({"source_model": "/no/such"}, "there is no such folder"),
    "no such teacher": ({"vectors_teacher": "other@0123456789ab"}, "vectors_teacher is 'other@0123456789ab'"),
}


@pytest.mark.parametrize(("change", "message"), EARLY.values(), ids=EARLY)
def test_what_cannot_be_trained_is_refused_before_ray_and_leaves_nothing(setting, change, message):
    tables, curated, vectors, config = setting

    with pytest.raises(UserError, match=message):
        distill.run(curated, config.model_copy(update=change), name="early", vectors=vectors, connect=no_cluster)

    assert not list(Path(tables.uri, "models").glob("*early*"))


def test_vectors_that_cannot_serve_are_refused_before_ray(setting, tmp_path):
    _, curated, _, config = setting
    with pytest.raises(UserError, match=r"distill.vectors is 0.5, but there are no .*score --vectors. with this --rec"):
        distill.run(curated, config, name="early", connect=no_cluster)
    tables = Tables.at(str(tmp_path / "tables"))
    part = write_curated(tables, num_queries=3)
    narrow = write_vectors(tables, part, width=16)
    with pytest.raises(UserError, match=r"are 16 wide, the student's 32: .* Set distill.vectors_projection=true"):
        distill.run(part, config.model_copy(update={"vectors_projection": False}), name="early", vectors=narrow,
                    connect=no_cluster)  # fmt: skip
    masking = {"vectors": 0.0, "info_nce": 1.0, "info_nce_false_negative_share": 0.95}
    with pytest.raises(UserError, match=r"info_nce_false_negative_share is 0.95, but .* --set distill.info_nce_false"):
        distill.run(curated, config.model_copy(update=masking), name="early", connect=no_cluster)
    check_training(part, config.model_copy(update=masking), narrow)  # of any width
    with pytest.raises(UserError, match=r"no vector by wide@0123456789ab for \d+ of the \d+ training texts"):
        distill.run(write_curated(tables, num_queries=4, seed=9), config, name="early", vectors=narrow_of(tables, part),
                    connect=no_cluster)  # fmt: skip


def narrow_of(tables, curated):
    """Vectors of the student's width for the texts of one curation."""
    shutil.rmtree(tables.path("teacher_vectors"))
    return write_vectors(tables, curated, WIDTH)


def test_of_two_teachers_the_curations_gives_the_vectors_and_else_one_must_be_named(setting, tmp_path):
    config = setting[3]
    tables = Tables.at(str(tmp_path / "tables"))
    curated = write_curated(tables, num_queries=4)
    write_vectors(tables, curated, WIDTH)
    of_two = write_vectors(tables, curated, WIDTH, teacher="other@0123456789ab")
    with pytest.raises(
        UserError, match=r"by other@0123456789ab, wide@.*, none of them by the curation's teacher overl"
    ):
        vectors_teachers(of_two, curated, config)
    of_three = write_vectors(tables, curated, WIDTH, teacher="overlap@0123456789ab")

    assert vectors_teachers(of_three, curated, config) == ("overlap@0123456789ab",)
    named = config.model_copy(update={"vectors_teacher": "wide@0123456789ab"})
    assert vectors_teachers(of_three, curated, named) == ("wide@0123456789ab",)
    check_vectors(of_three, curated, config, WIDTH)
    several = config.model_copy(update={"vectors_teacher": ("wide@0123456789ab", "overlap@0123456789ab")})
    assert vectors_teachers(of_three, curated, several) == several.vectors_teacher
    with pytest.raises(UserError, match=f"are {2 * WIDTH} wide, the student's {WIDTH}"):
        check_vectors(of_three, curated, several.model_copy(update={"vectors_projection": False}), WIDTH)
    one_is_gone = several.model_copy(update={"vectors_teacher": ("wide@0123456789ab", "gone@0123456789ab")})
    with pytest.raises(UserError, match=r'vectors_teacher is \["wide@0123456789ab", "gone@0123456789ab"\]'):
        check_vectors(of_three, curated, one_is_gone, WIDTH)


def test_few_triplets_and_an_empty_test_split_are_told_at_once(setting, capsys):
    _, curated, vectors, config = setting

    check_training(curated, config.model_copy(update={"triplets_per_step": 49}), vectors)

    told = capsys.readouterr().err
    assert "has no triplet in its test split" in told
    assert "48 triplets to train on, fewer than distill.triplets_per_step 49" in told


def test_a_version_without_training_rows_is_refused(setting, tmp_path):
    untrainable = write_curated(Tables.at(str(tmp_path / "tables")), num_queries=2, num_negatives=1, split="test")

    with pytest.raises(UserError, match="no triplet in its train split"):
        distill.run(untrainable, setting[3].model_copy(update={"vectors": 0.0}), name="nothing", connect=no_cluster)


def test_token_cache_of_a_killed_training_serves_only_the_same_data_config_and_place(setting, tmp_path):
    tables, curated, vectors, config = setting
    other_data = write_curated(Tables.at(str(tmp_path / "other")), num_queries=16)
    runs = [
        (curated, config, vectors, tables),
        (curated, config, None, tables),
        (curated, config.model_copy(update={"max_tokens": 32}), vectors, tables),
        (other_data, config, vectors, tables),
        (curated, config, vectors, Tables.at(str(tmp_path))),
    ]

    assert len({_cache_name(*run) for run in runs}) == 5
    assert _cache_name(*runs[0]) == _cache_name(*runs[0])


@pytest.fixture(scope="module")
def judged(setting):
    """A version with dev queries, and a config that chooses by them and names a sink."""
    version = write_judged(Path(setting[0].uri).with_name("judged"), 40, CurateConfig(dev_share=0.3, test_share=0.0))
    chosen = {"vectors": 0.0, "dev_every_steps": 2, "dev_passages": 50, "sink": "tests.heard:Heard"}
    return version, setting[3].model_copy(update=chosen)


def test_the_best_student_by_the_dev_split_is_recorded_and_told_to_the_sink(ray_cluster, judged, capsys):
    version, config = judged

    models = distill.run(version, config, name="chosen", connect=connected)

    run, (row,) = read_run(version.tables, "chosen"), models.scan().collect().to_dicts()
    lines = Path(version.tables.path("models", "chosen", "metrics.jsonl")).read_text().splitlines()
    values = {line["step"] + 1: line["dev_ndcg_at_10"] for line in map(json.loads, lines) if "dev_ndcg_at_10" in line}
    assert run["dev"]["dev_ndcg_at_10"] == values[run["dev"]["step"]] == max(values.values())
    assert (row["dev_ndcg_at_10"], row["dev_set"]) == (max(values.values()), f"{version}/dev:50p")
    assert run["training_data"]["dev"]["passages"] == 50
    assert f"the student after step {run['dev']['step']} of {len(lines)} is taken" in capsys.readouterr().err
    assert heard_file(config.source_model, "chosen").read_text().split() == [str(step) for step in range(len(lines))]


@pytest.mark.slow
def test_each_stage_chooses_for_itself_and_the_sink_hears_of_all_as_one_training(ray_cluster, judged, capsys):
    version, config = judged
    stages = [{"max_steps": 3}, {"max_steps": 2, "dev_every_steps": 1, "seed": 1}]
    config = DistillConfig(**config.model_dump(exclude={"stages"}), stages=stages)

    models = distill.run(version, config, name="staged", connect=connected)

    run, row = read_run(version.tables, "staged"), models.scan().filter(name="staged").collect().to_dicts()[0]
    metrics = Path(version.tables.path("models", "staged", "metrics.jsonl")).read_text().splitlines()
    lines = [json.loads(line) for line in metrics]
    assert [one["dev"]["evaluations"] for one in run["stages"]] == [2, 2]
    assert row["dev_ndcg_at_10"] == run["stages"][1]["dev"]["dev_ndcg_at_10"] == run["dev"]["dev_ndcg_at_10"]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)
    assert heard_file(config.source_model, "staged").read_text().split() == ["0", "1", "2", "3", "4"]
    assert "distill: stage 2 of 2 (stage_2): the student after step" in capsys.readouterr().err


def test_another_sink_makes_no_other_run_and_one_that_is_none_is_refused_before_ray(judged, capsys):
    version, config = judged
    without = config.model_copy(update={"sink": None})

    assert "sink" not in RunFolder(version.tables, "chosen").read(IDENTITY)["config"]
    distill.run(version, without, name="chosen", connect=no_cluster)
    assert "already trained" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"distill.sink is 'tests.heard:Deaf', which cannot be imported"):
        distill.run(version, config.model_copy(update={"sink": "tests.heard:Deaf"}), name="early", connect=no_cluster)


def test_a_version_without_dev_queries_is_refused_before_ray_and_leaves_nothing(judged):
    version, config = judged
    without = write_judged(Path(version.tables.uri).with_name("none"), 4, CurateConfig(dev_share=0.0, test_share=0.0))

    with pytest.raises(UserError, match=r"no query in its dev split: curate again with a curate\.dev_share above 0"):
        distill.run(without, config, name="early", connect=no_cluster)
    assert not Path(without.tables.path("models")).exists()


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_loss_that_is_not_finite_reaches_the_user_at_once_with_its_rows(ray_cluster, setting, tmp_path, num_workers):
    _, curated, vectors, config = setting
    changes = {"learning_rate": 1e30, "max_grad_norm": 1e30, "num_workers": num_workers, "max_failures": 3}
    exploding = config.model_copy(update=changes | {"checkpoint_every_steps": 1})

    with pytest.raises(
        NonFinite, match=rf"the loss of step 1 is nan.* --at {curated} .SELECT .*lower distill.learning"
    ):
        distill.train(curated, exploding, tmp_path, vectors=vectors, connect=connected)

    assert len(list((tmp_path / "work" / "checkpoints").glob("checkpoint_2*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_is_told_with_code_3_and_it_goes_on(ray_cluster, setting, number):
    tables, curated, _, config = setting
    slow = config.model_copy(update={"epochs": 5_000, "checkpoint_every_steps": 5, "vectors": 0.0})
    chosen = slow.model_dump(exclude_defaults=True, mode="json")
    command = [sys.executable, "-m", "jobs", "distill", "--tables", tables.uri, "--name=stopped", f"--from={curated}"]
    command += [f"--set=distill.{name}={json.dumps(value)}" for name, value in chosen.items()]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as training:
        while line := training.stderr.readline():
            if line.startswith("distill: step"):
                training.send_signal(number)
                break
        err = line + training.stderr.read()

    assert training.wait() == 3, err
    assert "interrupted; the same command goes on from the last commit or checkpoint" in err
    assert RunFolder(tables, "stopped").read(LOCK) is None


@pytest.mark.slow
def test_two_workers_killed_with_their_driver_go_on_to_identical_weights(ray_cluster, setting, tmp_path):
    """The driver has a Ray of its own, which dies with it; then the same call goes on from the last checkpoint."""
    tables, curated, vectors, config = setting
    slow = config.model_copy(update={"num_workers": 2, "epochs": 20, "checkpoint_every_steps": 5})
    undisturbed = distill.train(curated, slow, tmp_path / "undisturbed", vectors=vectors, connect=connected)
    program = [sys.executable, "-c", DRIVER, tables.uri, str(curated), str(vectors), slow.model_dump_json()]
    checkpoints = Path(tables.path("models", "killed", "ray", "checkpoints"))
    with subprocess.Popen(program, env=os.environ | {"PYTHONPATH": REPOSITORY}, start_new_session=True) as driver:
        while len(list(checkpoints.glob("checkpoint_*"))) < 2 and driver.poll() is None:
            time.sleep(0.05)
        os.killpg(driver.pid, signal.SIGKILL)
    assert not Path(tables.path("models", "killed", "run.json")).exists()
    before = (min(checkpoints.glob("checkpoint_*")) / "metrics.jsonl").read_text()

    distill.run(curated, slow, name="killed", vectors=vectors, connect=connected)

    assert read_run(tables, "killed")["weights_sha256"] == undisturbed["weights_sha256"]
    metrics = Path(tables.path("models", "killed", "metrics.jsonl")).read_text()
    assert metrics.startswith(before)  # with its times: those steps were not run again
    lines = metrics.splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(80))
