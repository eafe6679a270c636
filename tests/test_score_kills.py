"""kill -9 of a scoring's driver, of an actor, of a node, SIGTERM, at any point: each triplet is scored once.

    KILLS=40 KILLS_SEED=7 python -m pytest -m slow tests/test_score_kills.py -s

Kills are drawn by the seed, which is printed. A killed driver's command is run again; after the death of an actor or of
a node Ray Data goes on by itself. The cluster's nodes are processes of this machine, and share the folder into which
Ray unpacks our sources: a node that has just come unpacks them anew, and an actor of another one that starts at that
moment may miss a module (seen once in 40 kills; on machines of their own nodes share nothing).
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.inspection.pins import pins
from pipelines.storage import Tables
from pipelines.storage.vacuum import plan
from pipelines.teachers.config import TeacherConfig
from tests.scorings import append_triplets, assert_each_once
from tests.tiny import tiny_cross_encoder

REPOSITORY = Path(__file__).parents[1]
NUM_KILLS, SEED = int(os.environ.get("KILLS", 12)), int(os.environ.get("KILLS_SEED", 0))
NUM_QUERIES, CHUNK_ROWS = 300, 40  # of three triplets each: at least 23 chunks
PATIENCE_S = 240.0
POINTS = {  # -> how often it is passed before the kill, at most
    "begun": 1,  # Ray is connected; nothing may be written yet
    "file": 15,  # one more data file is there, or a part of it, and of no version
    "commit": 4,  # one more version is there
}


@dataclass(frozen=True)
class Kill:
    """One kill, `late_s` after a point was passed for the `nth` time."""

    of: str  # driver, SIGTERM (of the driver), actor, node
    point: str
    nth: int
    late_s: float

    def __str__(self) -> str:
        return f"{self.of} {self.late_s:.2f} s after {self.point} {self.nth}"


def drawn(number: int, seed: int) -> list[Kill]:
    """Kills of every kind in turn, at points drawn by the seed."""
    draw = random.Random(seed)
    kills = []
    for index in range(number):
        point, nth = draw.choice(list(POINTS.items()))
        late_s = draw.uniform(0, 3) if point == "begun" else draw.choice([0, draw.uniform(0, 0.3)])
        kills.append(Kill(("driver", "actor", "node", "SIGTERM")[index % 4], point, draw.randint(1, nth), late_s))
    return kills


class Scoring:
    """One command `score`, what it has told, and how far it has come."""

    def __init__(self, command: list[str], address: str, tables: Tables, log: Path) -> None:
        self.folder, self._log = Path(tables.path("scored_triplets")), log
        self._seen = set[str]()
        with log.open("w") as told:
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(REPOSITORY)},
                stdout=told,
                stderr=told,
            )

    def told(self) -> str:
        return self._log.read_text()

    def passed(self, point: str) -> int:
        if point == "begun":
            return self.told().count("ray: nodes")
        if point == "commit":
            return len(list(self.folder.glob("_delta_log/*.json")))
        self._seen |= {file.name for file in self.folder.glob("*.parquet")}
        return len(self._seen)

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)


class Scorings:
    """Commands `score` on one cluster, each under a root of its own with the same triplets."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.teacher = TeacherConfig(teacher=tiny_cross_encoder(folder / "judge"), max_tokens=64)
        self.triplets = append_triplets(Tables.at(str(folder / "triplets")), 0, NUM_QUERIES, negatives=3)
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(2)]

    def shutdown(self) -> None:
        self._cluster.shutdown()

    def root(self, name: str) -> Tables:
        return Tables.at(str(shutil.copytree(self.folder / "triplets", self.folder / name)))

    def start(self, tables: Tables) -> Scoring:
        settings = {"teacher": self.teacher.teacher, "max_tokens": 64, "precision": "float32"}
        settings |= {"chunk_rows": CHUNK_ROWS, "commit_every_s": 0.1}
        named = [f"--set=score.{field}={value}" for field, value in settings.items()]
        command = [sys.executable, "-m", "jobs", "score", "--tables", tables.uri, *named]
        return Scoring(command, self._cluster.address, tables, Path(f"{tables.uri}.log"))

    def killed(self, tables: Tables, kill: Kill) -> str:
        """A scoring that one kill happened to, ended; returns what was there at that moment."""
        scoring = self.start(tables)
        wait(lambda: scoring.passed(kill.point) >= kill.nth, scoring)
        time.sleep(kill.late_s)
        there = f"{scoring.passed('commit')} versions, {files_of_none(tables)} files of none"
        assert scoring.process.poll() is None, f"it ended before it was to be killed: {scoring.told()}"
        self._kill(kill.of, scoring)
        if kill.of in ("driver", "SIGTERM"):
            assert scoring.end() == (3 if kill.of == "SIGTERM" else -signal.SIGKILL), scoring.told()
            scoring = self.start(tables)
        assert scoring.end() == 0, scoring.told()
        return there

    def _kill(self, of: str, scoring: Scoring) -> None:
        if of in ("driver", "SIGTERM"):
            scoring.process.send_signal(signal.SIGTERM if of == "SIGTERM" else signal.SIGKILL)
        elif of == "node":
            self._cluster.remove_node(self._nodes.pop(0), allow_graceful=False)
            self._nodes.append(self._cluster.add_node(num_cpus=1))
        else:
            wait(lambda: bool(self._actors()), scoring)
            self._actors()[0].kill()

    def _actors(self) -> list[psutil.Process]:
        """Chunk actors of this cluster, which Ray names so."""
        raylets = [info.process.pid for node in self._nodes for info in node.all_processes["raylet"]]
        children = [child for pid in raylets for child in psutil.Process(pid).children(recursive=True)]
        return [child for child in children if any("ChunkActor" in word for word in _cmdline(child))]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def files_of_none(tables: Tables) -> int:
    """Data files that lie there and are of no version."""
    folder = Path(tables.path("scored_triplets"))
    logged = "".join(entry.read_text() for entry in folder.glob("_delta_log/*.json"))
    return sum(file.name not in logged for file in folder.glob("*.parquet"))


def wait(is_true: Callable[[], bool], scoring: Scoring) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_true():
        assert scoring.process.poll() is None, f"it ended before it was to be killed: {scoring.told()}"
        assert time.monotonic() < until, "it never came to where it was to be killed"
        time.sleep(0.002)


def removed_after(scorings: Scorings, tables: Tables) -> int:
    """Every triplet has its scores once; how many files of no version a vacuum had to remove."""
    orphans = files_of_none(tables)
    plan(tables, pins(tables), 0).remove()
    assert files_of_none(tables) == 0
    newest: Any = tables.newest("scored_triplets")
    assert_each_once(scorings.triplets, newest, scorings.teacher)
    return orphans


@pytest.fixture(scope="module")
def scorings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorings]:
    scorings = Scorings(tmp_path_factory.mktemp("score_kills"))
    yield scorings
    scorings.shutdown()


@pytest.mark.timeout(600)
def test_a_node_killed_while_it_scores_costs_no_row(scorings):
    tables = scorings.root("node")

    scorings.killed(tables, Kill("node", "file", 2, 0.0))

    removed_after(scorings, tables)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("number", "kill"), [*enumerate(drawn(NUM_KILLS, SEED))], ids=str)
def test_a_killed_scoring_scores_each_triplet_once(scorings, number, kill):
    tables, started = scorings.root(f"killed_{number}"), time.monotonic()

    there = scorings.killed(tables, kill)

    orphans = removed_after(scorings, tables)
    print(f"\nseed {SEED}: {kill}: {there}; {orphans} files left; {time.monotonic() - started:.0f} s", end=" ")
