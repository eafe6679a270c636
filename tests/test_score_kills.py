"""kill -9 of a scoring's driver, of an actor, of a node, SIGTERM, at any point: each triplet is scored once.

    KILLS=40 KILLS_SEED=7 python -m pytest -m slow tests/test_score_kills.py -s

Kills are drawn by the seed, which is printed. A killed driver's command is run again; after the death of an actor or of
a node Ray Data goes on by itself. The cluster's nodes are processes of this machine.
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

import polars as pl
import psutil
import pytest

from pipelines.inspection.pins import pins
from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.storage.vacuum import plan
from pipelines.teachers.config import TeacherConfig, load_teacher
from schemas import Triplets
from tests.rows import frame_of
from tests.tiny import WORDS, tiny_cross_encoder

REPOSITORY = Path(__file__).parents[1]
NUM_KILLS, SEED = int(os.environ.get("KILLS", 12)), int(os.environ.get("KILLS_SEED", 0))
NUM_QUERIES, NEGATIVES = 300, 3
PATIENCE_S = 240.0
POINTS = {
    "started": "nothing is written yet",
    "file": "a file is there, or a part of it, and of no version",
    "commit": "a version is there",
    "any": "whatever is",
}


@dataclass(frozen=True)
class Kill:
    """One kill, `late_s` after the `nth` time that a point was passed."""

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
        of = ("driver", "actor", "node", "SIGTERM")[index % 4]
        point = draw.choice([point for point in POINTS if point != "started" or of in ("driver", "SIGTERM")])
        late_s = draw.uniform(0, 4) if point in ("started", "any") else draw.choice([0, draw.uniform(0, 0.3)])
        kills.append(Kill(of, point, draw.randint(1, 8), late_s))
    return kills


class Scorings:
    """Commands `score` on one cluster, each under a root of its own with the same triplets."""

    def __init__(self, folder: Path, judge: str) -> None:
        from ray.cluster_utils import Cluster

        self.folder, self.judge = folder, judge
        self.triplets = write_triplets(Tables.at(str(folder / "triplets")))
        self.expected = expected_scores(self.triplets, TeacherConfig(teacher=judge, max_tokens=64))
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(2)]

    def shutdown(self) -> None:
        self._cluster.shutdown()

    def root(self, name: str) -> Tables:
        return Tables.at(str(shutil.copytree(self.folder / "triplets", self.folder / name)))

    def start(self, tables: Tables) -> subprocess.Popen[str]:
        settings = (
            f"teacher={self.judge}",
            "chunk_rows=40",
            "commit_every_s=0.1",
            "max_tokens=64",
            "precision=float32",
        )
        command = [sys.executable, "-m", "jobs", "score", "--tables", tables.uri]
        return subprocess.Popen(
            [*command, *(f"--set=score.{one}" for one in settings)],
            cwd=REPOSITORY,
            env=os.environ | {"RAY_ADDRESS": self._cluster.address, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def killed(self, tables: Tables, kill: Kill) -> str:
        """A scoring that one kill happened to, ended; returns what was there at that moment."""
        scoring = self.start(tables)
        wait(lambda: passed(tables, kill.point) >= kill.nth, scoring)
        time.sleep(kill.late_s)
        there = f"{passed(tables, 'commit')} versions, {passed(tables, 'file')} files of none"
        if not self._kill(kill.of, scoring):
            there += "; it had ended"
        if kill.of in ("driver", "SIGTERM"):
            told, _ = scoring.communicate(timeout=PATIENCE_S)
            assert scoring.returncode in (0, 3 if kill.of == "SIGTERM" else -signal.SIGKILL), told[-3000:]
            scoring = self.start(tables)
        told, _ = scoring.communicate(timeout=PATIENCE_S)
        assert scoring.returncode == 0, told[-6000:]
        return there

    def _kill(self, of: str, scoring: subprocess.Popen[str]) -> bool:
        """Whether there was something to kill."""
        if of in ("driver", "SIGTERM"):
            scoring.send_signal(signal.SIGTERM if of == "SIGTERM" else signal.SIGKILL)
            return scoring.poll() is None
        if of == "node":
            self._cluster.remove_node(self._nodes.pop(0), allow_graceful=False)
            self._nodes.append(self._cluster.add_node(num_cpus=1))
            return True
        wait(lambda: bool(actors()) or scoring.poll() is not None)
        for actor in actors()[:1]:
            actor.kill()
            return True
        return False


def actors() -> list[psutil.Process]:
    """Processes of chunk actors, whatever cluster they are of; Ray names them so."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("ChunkActor" in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


def passed(tables: Tables, point: str) -> int:
    """How often a point was passed by now."""
    folder = Path(tables.path("scored_triplets"))
    if point in ("started", "any"):
        return 8
    if point == "commit":
        return len(list(folder.glob("_delta_log/*.json")))
    logged = "".join(entry.read_text() for entry in folder.glob("_delta_log/*.json"))
    return sum(file.name not in logged for file in folder.glob("*.parquet"))


def wait(is_true: Callable[[], bool], scoring: subprocess.Popen[str] | None = None) -> None:
    """Until it is, or until the scoring has ended without it."""
    until = time.monotonic() + PATIENCE_S
    while not is_true() and (scoring is None or scoring.poll() is None):
        assert time.monotonic() < until, "it never came to where it was to be killed"
        time.sleep(0.002)


def write_triplets(tables: Tables) -> TableVersion:
    def text(seed: str, words: int = 6) -> str:
        return " ".join(random.Random(seed).choices(WORDS, k=words))

    rows = [
        {"query": text(f"q{n}", 4), "positive": text(f"p{n}"), "negative": text(f"p{n + 1 + 7 * k}")}
        for n in range(NUM_QUERIES)
        for k in range(NEGATIVES)
    ]
    with new_version(tables, Triplets, Lineage("ingest", [], Config())) as writer:
        writer.write(frame_of(Triplets, *rows).sort("query_id"))
    return writer.version


def expected_scores(triplets: TableVersion, config: TeacherConfig) -> pl.DataFrame:
    """What the teacher gives in this process."""
    rows, judge = triplets.scan().collect(), load_teacher(config)
    scores: dict[str, Any] = {
        f"{side}_score": judge.score(rows["query"].to_list(), rows[side].to_list()).score
        for side in ("positive", "negative")
    }
    return rows.select("triplet_id").with_columns(**{name: pl.Series(values) for name, values in scores.items()})


def assert_each_once(scorings: Scorings, tables: Tables) -> int:
    """Every triplet has its scores once; returns how many files of no version a vacuum had to remove."""
    orphans = passed(tables, "file")
    plan(tables, pins(tables), 0).remove()
    assert passed(tables, "file") == 0
    newest = tables.newest("scored_triplets")
    assert newest is not None
    rows = newest.scan().collect()
    assert rows["triplet_id"].sort().to_list() == scorings.expected["triplet_id"].sort().to_list()
    compared = rows.join(scorings.expected, on="triplet_id", suffix="_expected")
    for side in ("positive", "negative"):
        assert (compared[f"{side}_score"] - compared[f"{side}_score_expected"]).abs().max() <= 1e-5
    return orphans


@pytest.fixture(scope="module")
def scorings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorings]:
    folder = tmp_path_factory.mktemp("score_kills")
    scorings = Scorings(folder, tiny_cross_encoder(folder / "judge"))
    yield scorings
    scorings.shutdown()


def test_a_node_killed_while_it_scores_costs_no_row(scorings):
    tables = scorings.root("node")

    scorings.killed(tables, Kill("node", "file", 1, 0.0))

    assert_each_once(scorings, tables)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "kill"), [*enumerate(drawn(NUM_KILLS, SEED))], ids=str)
def test_a_killed_scoring_scores_each_triplet_once(scorings, number, kill):
    tables, started = scorings.root(f"killed_{number}"), time.monotonic()

    there = scorings.killed(tables, kill)

    orphans = assert_each_once(scorings, tables)
    print(f"\nseed {SEED}: {kill}: {there}; {orphans} files left; {time.monotonic() - started:.0f} s", end=" ")
