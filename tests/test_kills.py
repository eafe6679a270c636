"""kill -9 of a training's driver, of a worker, of a node, at any point: the weights are those of the undisturbed run.

    KILLS=12 KILLS_SEED=7 python -m pytest -m slow tests/test_kills.py -s

Kills are drawn by the seed, which is printed: what, where, with how many workers (KILLS_WORKERS=1,2 takes part of
them); KILLS_STAGES=2 cuts the recipe into training stages. A killed driver's command is run again; after the death of
a worker or of a node Ray Train goes on by itself.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines import distill
from pipelines.checkpoints.name import weights_sha256
from pipelines.checkpoints.run_folder import IDENTITY, METRICS, MODEL, RUN, TENSORBOARD, WORK
from pipelines.storage import Tables
from pipelines.students.config import DistillConfig
from pipelines.students.training.loop import STATE
from tests.heard_trainings import REPOSITORY, finish, wait
from tests.kill_points import POINTS, SETTINGS, TRAINED
from tests.tiny import tiny_encoder
from tests.training_data import write_curated, write_vectors

NUM_STEPS, EVERY = 40, 4  # steps of a run, and of them between two checkpoints
COPYING = "copying"  # the trained model is on its way into models/NAME
NUM_KILLS, SEED = int(os.environ.get("KILLS", 12)), int(os.environ.get("KILLS_SEED", 0))
NUM_STAGES = int(os.environ.get("KILLS_STAGES", 1))
WORKERS = [int(number) for number in os.environ.get("KILLS_WORKERS", "1,2,4").split(",")]


RECIPE = {
    "num_layers": 2,
    "dimensions": [32, 8],
    "max_tokens": 64,
    "epochs": 10,
    "triplets_per_step": 12,
    "learning_rate": 1e-3,
    "vectors": 0.5,
    "info_nce": 0.5,
    "tokens_per_forward": 200,
    "checkpoint_every_steps": EVERY,
    "use_gpu": False,
}


@dataclass(frozen=True)
class Kill:
    """One kill: `of` a driver, a worker or a node (those of `rank`), at a step or at a point of a checkpoint."""

    of: str
    point: str
    nth: int
    rank: int
    workers: int

    def __str__(self) -> str:
        return f"{self.workers} workers: {self.of} of rank {self.rank} at {self.point} {self.nth}"


def drawn(number: int, seed: int) -> list[Kill]:
    """Kills of every kind and number of workers in turn, at points drawn by the seed."""
    draw = random.Random(seed)
    kills = []
    for index in range(number):
        of, workers = ("driver", "worker", "node")[index % 3], (1, 2, 2, 4)[index // 3 % 4]
        points = ["step", *POINTS] + ([TRAINED, COPYING] if of == "driver" else [])
        point = draw.choice(points)
        last = NUM_STEPS if point == "step" else NUM_STEPS // EVERY
        nth = draw.choice([1, draw.randint(2, last - 1), last])
        nth = {TRAINED: draw.randint(1, NUM_STAGES), COPYING: 1}.get(point, nth)
        kills.append(Kill(of, point, nth, draw.randrange(workers), workers))
    return kills


DRAWN = [(number, kill) for number, kill in enumerate(drawn(NUM_KILLS, SEED)) if kill.workers in WORKERS]


def as_toml(recipe: dict[str, Any], num_stages: int) -> str:
    """A recipe of [distill], its epochs shared out among stages of falling learning rates."""
    lines = ["[distill]", *(f"{field} = {json.dumps(value)}" for field, value in recipe.items())]
    for stage in range(num_stages) if num_stages > 1 else ():
        lines += [
            "[[distill.stages]]",
            f"epochs = {recipe['epochs'] // num_stages}",
            f"learning_rate = {1e-3 / (stage + 1)}",
        ]
    return "\n".join(lines)


class Trainings:
    """Commands `distill` under one root on one cluster, whose nodes are processes of this machine."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        tables = Tables.at(str(folder / "tables"))
        self.tables, self.curated = tables, write_curated(tables, num_queries=16)
        write_vectors(tables, self.curated, width=32)
        self._source = tiny_encoder(folder / "source", "bert", num_layers=4)
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes = [self._add_node() for _ in range(2)]
        self._undisturbed: dict[int, dict[str, Any]] = {}

    def _add_node(self) -> Any:
        return self._cluster.add_node(num_cpus=2)

    def shutdown(self) -> None:
        self._cluster.shutdown()

    def start(self, name: str, workers: int, **environment: str) -> subprocess.Popen[str]:
        recipe = self.folder / f"{name}.toml"
        recipe.write_text(as_toml(RECIPE | {"source_model": self._source, "num_workers": workers}, NUM_STAGES))
        command = [sys.executable, "-m", "jobs", "distill", "--tables", self.tables.uri, "--name", name]
        command += ["--recipe", str(recipe)]
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ | {"RAY_ADDRESS": self._cluster.address, "PYTHONPATH": str(REPOSITORY)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def undisturbed(self, workers: int) -> dict[str, Any]:
        """run.json of a training that nothing happened to."""
        if workers not in self._undisturbed:
            finish(self.start(f"undisturbed_{workers}", workers))
            self._undisturbed[workers] = self.run(f"undisturbed_{workers}")
        return self._undisturbed[workers]

    def path(self, name: str, *parts: str) -> Path:
        return Path(self.tables.path("models", name, *parts))

    def run(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path(name, RUN).read_text())
        return found

    def killed(self, name: str, kill: Kill) -> str:
        """A training that one kill happened to, ended; returns what was there at that moment."""
        folder = self.folder / f"{name}_points"
        folder.mkdir()
        point = {"folder": str(folder), "point": kill.point, "nth": kill.nth}
        callbacks = {"RAY_TRAIN_CALLBACKS": "tests.kill_points.KillPoint", SETTINGS: json.dumps(point)}
        training = self.start(name, kill.workers, **callbacks)
        wait(lambda: self._is_at(name, kill, folder), training, every_s=0.002)
        if kill.point == "half copied":
            cut_short(self.path(name, WORK))
        self._kill(kill, folder, training)
        there = self._state(name)
        (folder / "go").touch()
        if kill.of == "driver":
            training.communicate()
            training = self.start(name, kill.workers)
        finish(training)
        return there

    def _is_at(self, name: str, kill: Kill, folder: Path) -> bool:
        if kill.point == COPYING:
            return self.path(name, MODEL).exists()
        if kill.point == "step":
            return (folder / f"rank_{kill.rank}").exists() and self._lines(folder) >= kill.nth - 1
        return (folder / "reached").exists()

    def _lines(self, folder: Path) -> int:
        """Steps that rank 0 has told of: the metrics file that its process holds open."""
        pid = json.loads((folder / "rank_0").read_text())["pid"] if (folder / "rank_0").exists() else 0
        for link in Path(f"/proc/{pid}/fd").glob("*") if pid else ():
            try:
                if link.readlink().name == METRICS:
                    return len(link.read_text().splitlines())
            except OSError:
                continue
        return -1

    def _kill(self, kill: Kill, folder: Path, training: subprocess.Popen[str]) -> None:
        if kill.of == "driver":
            training.kill()
            return
        victim = json.loads((folder / f"rank_{kill.rank}").read_text())
        if kill.of == "worker":
            os.kill(victim["pid"], signal.SIGKILL)
            return
        (node,) = (node for node in self._nodes if node.node_id == victim["node"])
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.append(self._add_node())

    def _state(self, name: str) -> str:
        kept = len(list(self.path(name, WORK).rglob("checkpoint_2*")))
        there = [part for part in (MODEL, RUN) if self.path(name, part).exists()]
        return f"{kept} checkpoints, {' and '.join(there) or 'no model'}"


def cut_short(work: Path) -> None:
    """Leave the newest checkpoint as a copy that breaks off leaves it."""
    state = max(work.rglob("checkpoint_2*"), key=lambda checkpoint: checkpoint.name) / STATE
    os.truncate(state, state.stat().st_size // 2)


def test_a_worker_killed_while_a_checkpoint_is_copied_ends_with_the_same_bytes(ray_cluster, tmp_path, monkeypatch):
    """The small one: two workers, one kill, on the tests' own cluster."""
    tables = Tables.at(str(tmp_path / "tables"))
    curated = write_curated(tables, num_queries=16)
    chosen = {"source_model": tiny_encoder(tmp_path / "source", "bert", num_layers=4), "num_workers": 2, "epochs": 3}
    config = DistillConfig.model_validate(RECIPE | chosen | {"vectors": 0.0})
    connected: dict[str, Any] = {"connect": lambda: None}
    undisturbed = distill.train(curated, config, tmp_path / "undisturbed", **connected)
    monkeypatch.setenv("RAY_TRAIN_CALLBACKS", "tests.kill_points.KillPoint")
    monkeypatch.setenv(SETTINGS, json.dumps({"folder": str(tmp_path), "point": "half copied", "nth": 2}))

    def kill() -> None:
        while not (tmp_path / "reached").exists():
            time.sleep(0.01)
        cut_short(Path(tables.path("models", "killed", WORK)))
        os.kill(json.loads((tmp_path / "rank_1").read_text())["pid"], signal.SIGKILL)
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    distill.run(curated, config, name="killed", **connected)

    killed = Path(tables.path("models", "killed"))
    assert not killer.is_alive()
    assert weights_sha256(killed / MODEL) == undisturbed["weights_sha256"]
    assert [json.loads(line)["step"] for line in (killed / METRICS).read_text().splitlines()] == list(range(12))


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainings]:
    trainings = Trainings(tmp_path_factory.mktemp("kills"))
    yield trainings
    trainings.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "kill"), DRAWN, ids=str)
def test_a_killed_training_ends_with_the_bytes_of_the_undisturbed_one(trainings, number, kill):
    name = f"killed_{number}"
    undisturbed = trainings.undisturbed(kill.workers)
    started = time.monotonic()

    there = trainings.killed(name, kill)

    print(f"\nseed {SEED}: {kill}: there were {there}; {time.monotonic() - started:.0f} s", end=" ")
    trained = trainings.run(name)
    assert trained["weights_sha256"] == undisturbed["weights_sha256"]
    assert weights_sha256(trainings.path(name, MODEL)) == undisturbed["weights_sha256"]
    lines = [json.loads(line) for line in trainings.path(name, METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(NUM_STEPS))
    assert [line["loss"] for line in lines] == losses(trainings, f"undisturbed_{kill.workers}")
    models = trainings.tables.latest("models")
    assert models is not None
    assert models.scan().collect()["name"].to_list().count(name) == 1
    assert sorted(path.name for path in trainings.path(name).iterdir()) == [IDENTITY, METRICS, MODEL, RUN, TENSORBOARD]


def losses(trainings: Trainings, name: str) -> list[float]:
    return [json.loads(line)["loss"] for line in trainings.path(name, METRICS).read_text().splitlines()]
