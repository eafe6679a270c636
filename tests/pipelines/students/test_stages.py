"""Several training stages: each from the student before it, on its own version, and the same bytes after any kill."""

import json
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray.train
from pydantic import ValidationError

from pipelines import distill
from pipelines.checkpoints.run_folder import CARRIED, START, STATE, UNTRAINED, RunFolder
from pipelines.distill import DistillConfig
from pipelines.inspection.graph import downstream_of, upstream_of
from pipelines.inspection.reproduction import data_differences, recorded_run
from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from pipelines.students.checks import check_training
from pipelines.students.stages import forget, hand_on, stages_of, told_before
from tests.clusters import connected, no_cluster
from tests.tiny import tiny_encoder
from tests.training_data import write_curated, write_vectors

WIDTH = 32
STAGES = [
    {"name": "vectors", "vectors": 1.0, "curated_version": 0, "learning_rate": 1e-3, "max_steps": 12},
    {"name": "scores", "margin_mse": 1.0, "epochs": 30},
]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Two curated versions, vectors of the first one's texts alone, and a config of a stage on each."""
    folder = tmp_path_factory.mktemp("stages")
    tables = Tables.at(str(folder / "tables"))
    weak = write_curated(tables, num_queries=16)
    vectors = write_vectors(tables, weak, WIDTH)
    strong = write_curated(tables, num_queries=12, seed=7)
    config = DistillConfig(
        source_model=tiny_encoder(folder / "source", "bert", num_layers=4),
        num_layers=2,
        dimensions=(WIDTH, 8),
        max_tokens=64,
        epochs=10,
        triplets_per_step=12,
        learning_rate=5e-4,
        checkpoint_every_steps=10,
        margin_mse=0.0,
        max_failures=0,
        stages=STAGES,
    )
    return tables, weak, strong, vectors, config


@pytest.fixture(scope="module")
def trained(ray_cluster, setting):
    _, _, strong, vectors, config = setting
    return distill.run(strong, config, name="staged", vectors=vectors, connect=connected)


def run_of(tables, name="staged"):
    return json.loads(Path(tables.path("models", name, "run.json")).read_text())


def lines_of(folder):
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def steps_of(lines):
    return [(line["stage"], line["step"]) for line in lines]


WHOLE = [("vectors", step) for step in range(12)] + [("scores", step) for step in range(12, 102)]


def test_run_file_tells_each_stage_and_the_metrics_count_on(setting, trained):
    tables, weak, strong, _, config = setting
    run = run_of(tables)

    assert run["curated"] == strong.identity()
    assert run["config"]["stages"] == DistillConfig.model_validate(run["config"]).identity()["stages"]
    assert run["config"]["stages"] == config.identity()["stages"]
    assert [(one["name"], one["curated"], one["steps"]) for one in run["stages"]] == [
        ("vectors", weak.identity(), 12),
        ("scores", strong.identity(), 90),
    ]
    assert run["stages"][0]["config"]["vectors"] == 1.0
    assert [one["training_data"]["vector_width"] for one in run["stages"]] == [WIDTH, 0]
    assert (run["steps"], run["seconds"]) == (102, sum(one["seconds"] for one in run["stages"]))
    assert run["stages"][1]["weights_sha256"] == run["weights_sha256"] != run["stages"][0]["weights_sha256"]
    lines = lines_of(tables.path("models", "staged"))
    assert steps_of(lines) == WHOLE
    assert ["vectors" in line for line in lines] == [True] * 12 + [False] * 90
    assert [lines[step]["epoch"] for step in (11, 12)] == [2, 0]
    assert not RunFolder(tables, "staged").holds("ray")


def test_lineage_names_both_versions_both_ways(setting, trained):
    _, weak, strong, vectors, _ = setting

    assert [one.model_dump() for one in trained.commit.inputs] == [
        version.identity() for version in (strong, weak, vectors)
    ]
    assert {str(strong), str(weak), str(vectors)} <= {str(version) for _, version in upstream_of(trained)}
    for version in (weak, strong):
        assert str(trained) in {str(made) for _, made in downstream_of(version)}
    assert trained.scan().collect()["curated_version"].to_list() == [str(strong)]


def test_a_finished_one_is_found_and_another_stage_is_refused_with_the_difference(setting, trained):
    _, _, strong, vectors, config = setting
    other = DistillConfig(**config.model_dump(exclude={"stages"}), stages=[STAGES[0], STAGES[1] | {"seed": 3}])

    assert distill.run(strong, config, name="staged", vectors=vectors, connect=no_cluster) == trained
    with pytest.raises(UserError, match=r"begun with config\.stages\.1\.seed None, not 3\. Choose another"):
        distill.run(strong, other, name="staged", vectors=vectors, connect=no_cluster)


@pytest.mark.slow
def test_killed_while_the_first_stages_student_was_copied_it_goes_on_to_the_same_bytes(setting, trained, tmp_path):
    tables, weak, strong, vectors, config = setting
    work = str(tmp_path / "work")
    distill.train(weak, config.training_stages()[0], tmp_path / "one", vectors=vectors, connect=connected, work=work)
    checkpoints = len(list(Path(work, "checkpoints").glob("checkpoint_*/")))
    Path(work, "2", UNTRAINED).mkdir(parents=True)
    Path(work, "2", UNTRAINED, "model.safetensors").write_bytes(b"half of it")

    again = distill.train(strong, config, tmp_path / "all", vectors=vectors, connect=connected, work=work)

    assert checkpoints
    assert again["weights_sha256"] == run_of(tables)["weights_sha256"]
    assert list(data_differences(run_of(tables), again)) == []
    assert [line["step"] for line in lines_of(tmp_path / "all")] == list(range(102))
    assert not Path(work, "checkpoints").exists()


def kill_a_worker_after(checkpoints: Path) -> None:
    """kill -9 of our own cluster's training worker once the stage has kept a checkpoint."""
    while len(list(checkpoints.glob("checkpoint_*/"))) < 2:  # the first of them is kept, not only being copied
        time.sleep(0.02)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # gone meanwhile
            if "TrainWorker" in " ".join(process.cmdline()):
                process.kill()


@pytest.mark.slow
def test_a_worker_killed_in_the_second_stage_costs_no_step_of_the_first(setting, trained, tmp_path, capsys):
    tables, _, strong, vectors, config = setting
    work = Path(tmp_path / "work")
    killer = threading.Thread(target=kill_a_worker_after, args=(work / "2" / "checkpoints",), daemon=True)
    killer.start()
    with pytest.raises(ray.train.WorkerGroupError):
        distill.train(strong, config, tmp_path / "all", vectors=vectors, connect=connected, work=str(work))
    killer.join()
    first = json.loads((work / "2" / START).read_text())
    capsys.readouterr()

    again = distill.train(strong, config, tmp_path / "all", vectors=vectors, connect=connected, work=str(work))

    assert again["weights_sha256"] == run_of(tables)["weights_sha256"]
    assert again["stages"][0]["seconds"] == first[0]["seconds"]  # not run again
    assert steps_of(lines_of(tmp_path / "all")) == WHOLE
    told = capsys.readouterr().err
    assert "distill: stage 2 of 2 (scores): the student after 12 steps, on curated_triplets@1" in told
    assert "distill: stage 2 of 2 (scores): goes on after step" in told
    assert "stage 1 of 2" not in told


def test_a_start_is_whole_only_with_its_last_file_and_leaves_out_the_optimizer(tmp_path):
    kept, checkpoint = Tables(str(tmp_path / "work")), tmp_path / "checkpoint"
    (checkpoint / "model").mkdir(parents=True)
    (checkpoint / "model" / "config.json").write_text("{}")
    (checkpoint / "tensorboard" / "a").mkdir(parents=True)
    (checkpoint / "tensorboard" / "a" / "events").write_text("e")
    for name in (STATE, "metrics.jsonl", "objective.safetensors"):
        (checkpoint / name).write_text(name)
    stages = [None] * 3
    assert told_before(kept, stages) == []

    hand_on(checkpoint, kept, [{"steps": 5}])
    start = tmp_path / "work" / "2"
    assert sorted(path.name for path in start.iterdir()) == [CARRIED, START, UNTRAINED]
    kept_beside = sorted(path.name for path in (start / CARRIED).iterdir())
    assert kept_beside == ["metrics.jsonl", "objective.safetensors", "tensorboard"]
    assert (start / CARRIED / "tensorboard" / "a" / "events").read_text() == "e"
    assert (start / UNTRAINED / "config.json").read_text() == "{}"
    hand_on(checkpoint, kept, [{"steps": 5}, {"steps": 6}])
    forget(kept, 2)

    assert told_before(kept, stages) == [{"steps": 5}, {"steps": 6}]
    (tmp_path / "work" / "3" / START).unlink()
    assert told_before(kept, stages) == [{"steps": 5}]


REFUSED = {  # changes of the second stage -> what is said of it, before Ray starts
    "a version that is not there": ({"curated_version": 9}, r"stage 2 of 2 \(scores\): curated_triplets@9 does not ex"),
    "no vectors for its texts": ({"vectors": 1.0}, r"stage 2 of 2 \(scores\): .* has no vector by .* \d+ of the"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_one_stage_cannot_do_is_refused_before_ray_and_leaves_nothing(setting, change, message):
    tables, _, strong, vectors, config = setting
    given = DistillConfig(**config.model_dump(exclude={"stages"}), stages=[STAGES[0], STAGES[1] | change])

    with pytest.raises(UserError, match=message):
        distill.run(strong, given, name="early", vectors=vectors, connect=no_cluster)

    assert not list(Path(tables.uri, "models").glob("*early*"))


def test_a_stage_without_vectors_or_training_rows_is_named(setting, tmp_path, capsys):
    _, _, strong, _, config = setting
    with pytest.raises(UserError, match=r"stage 1 of 2 \(vectors\): distill.vectors is 1.0, but there are no teacher"):
        distill.run(strong, config, name="early", connect=no_cluster)
    tables = Tables.at(str(tmp_path / "tables"))
    write_curated(tables, num_queries=4, split="test")
    both = write_curated(tables, num_queries=4, seed=1)
    scores = [{"margin_mse": 1.0}, {"margin_mse": 1.0, "curated_version": 0}]
    given = DistillConfig(**config.model_dump(exclude={"stages"}), stages=scores)
    with pytest.raises(UserError, match=r"stage 2 of 2 \(stage_2\): curated_triplets@0 has no triplet in its train"):
        distill.run(both, given, name="early", connect=no_cluster)
    trained_on = write_curated(tables, num_queries=4)
    held_out = tables.parse("curated_triplets@0")

    check_training(held_out, DistillConfig(**given.model_dump(exclude={"stages"}), stages=[
        {"margin_mse": 1.0, "curated_version": trained_on.version}]), None)  # fmt: skip

    assert "trains on 4 queries of the test split of curated_triplets@0" in capsys.readouterr().err


def test_stages_that_all_name_their_version_make_the_same_run_whatever_is_newest(setting):
    _, weak, strong, vectors, config = setting
    named = [STAGES[0], STAGES[1] | {"curated_version": 0}]
    given = DistillConfig(**config.model_dump(exclude={"stages"}), stages=named)

    assert distill.main_version(strong, given) == weak
    assert distill.main_version(strong, config) == strong
    assert [stage.vectors for stage in stages_of(strong, config, vectors)] == [vectors, None]


def test_versions_of_every_stage_are_looked_for_before_a_model_is_made_again(setting, trained, tmp_path):
    tables = setting[0]
    run = run_of(tables)
    run["stages"][0]["curated"]["digest"] = "0" * 12
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"run": run}))

    with pytest.raises(UserError, match=r"was trained on .*curated_triplets@0.*made anew"):
        recorded_run(tables, str(folder)).data(tables)


def test_without_stages_nothing_of_them_is_written():
    assert "stages" not in DistillConfig().model_dump(mode="json")
    assert DistillConfig().training_stages() == [DistillConfig()]


def test_a_config_with_stages_reads_back_and_says_only_what_differs():
    config = DistillConfig(seed=4, stages=[{"seed": 4, "info_nce": 0.5}])

    assert config.model_dump(mode="json")["stages"] == [{"name": "stage_1", "info_nce": 0.5}]
    assert DistillConfig.model_validate_json(config.model_dump_json()) == config
    assert DistillConfig(**dict(config)) == config
    heard = config.model_copy(update={"sink": "mlflow"})
    assert heard.identity() == config.identity() == config.model_dump(mode="json", exclude={"sink"})


def test_a_stage_can_only_choose_by_dimensions_that_are_trained():
    with pytest.raises(ValidationError, match=r"dev_dimensions has \[16\], expected some of dimensions \(32, 8\)"):
        DistillConfig(dimensions=(32, 8), stages=[{"dev_every_steps": 5, "dev_dimensions": [16]}])
    (stage,) = DistillConfig(dimensions=(32, 8), stages=[{"dev_dimensions": [8]}]).training_stages()
    assert stage.choosing_dimensions() == (8,)


def test_what_is_changed_for_all_stages_reaches_those_without_their_own():
    config = DistillConfig(stages=[{"precision": "float32"}, {"info_nce": 0.5}])

    resolved = config.model_copy(update={"precision": "bf16", "query_prompt": "q: "})

    stages = resolved.training_stages()
    assert [stage.precision for stage in stages] == ["float32", "bf16"]
    assert [stage.query_prompt for stage in stages] == ["q: ", "q: "]
    assert DistillConfig(stages=[{"vectors": 1.0}, {}]).needs_vectors()
    assert not DistillConfig(vectors=1.0, stages=[{"vectors": 0.0}]).needs_vectors()
