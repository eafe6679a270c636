"""Trainings as commands, of 400 small steps and a checkpoint every 20, for tests of who hears of them and of kills."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.checkpoints.run_folder import METRICS, WORK
from pipelines.storage import Tables
from tests.tiny import tiny_encoder
from tests.training_data import write_curated

REPOSITORY = Path(__file__).parents[1]
PATIENCE_S = 400.0
STEPS = 400
RECIPE = """
[distill]
source_model = "{source}"
num_layers = 2
dimensions = [32, 8]
max_tokens = 64
epochs = 100
triplets_per_step = 12
learning_rate = 1e-3
info_nce = 0.5
checkpoint_every_steps = 20
use_gpu = false
"""


class Trainings:
    """Commands `distill` under one root, each with a Ray of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.tables, self._environment = Tables.at(str(folder / "tables")), environment
        self.curated = write_curated(self.tables, num_queries=16)
        self._recipe = folder / "recipe.toml"
        self._recipe.write_text(RECIPE.format(source=tiny_encoder(folder / "source", "bert", num_layers=4)))

    def start(self, name: str, sink: str | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "jobs", "distill", "--tables", self.tables.uri, "--name", name]
        command += ["--recipe", str(self._recipe), *(["--set", f"distill.sink={sink}"] if sink else [])]
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ | self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def folder(self, name: str) -> Path:
        return Path(self.tables.path("models", name))

    def last_checkpoint(self, name: str) -> int:
        """The number of the steps that the newest checkpoint has behind it."""
        kept = sorted((self.folder(name) / WORK).rglob(f"checkpoint_2*/{METRICS}"))
        return max((len(path.read_text().splitlines()) for path in kept), default=0)


def wait(is_true: Callable[[], bool], training: subprocess.Popen[str] | None = None, *, every_s: float = 0.05) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_true():
        if training is not None and training.poll() is not None:
            assert training.stdout is not None
            pytest.fail(f"it ended too early: {training.stdout.read()[-3000:]}")
        assert time.monotonic() < until, "it never came"
        time.sleep(every_s)


def finish(training: subprocess.Popen[str]) -> str:
    told, _ = training.communicate(timeout=PATIENCE_S)
    assert training.returncode == 0, told[-6000:]
    return told


def kill(training: subprocess.Popen[str]) -> None:
    training.kill()
    training.communicate()
