"""What tests of commands share: a command in this process, and a cluster as `ray start --head` makes it.

The cluster stands beside whatever else runs on this machine, and is gone afterwards.
"""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.clusters import TOKEN
from tests.in_process import run_jobs

LOG = "ray_start.log"


class Cluster(NamedTuple):
    address: str  # where jobs are submitted
    folder: Path  # where it keeps its sessions and what jobs upload

    def joined_at(self) -> str:
        """Its RAY_ADDRESS, as `ray start` tells it, a moment after the dashboard answers."""
        while not (found := re.findall(r"--address='(\S+)'", (self.folder / LOG).read_text())):
            time.sleep(0.1)
        return str(found[0])

    def add_gpu(self) -> None:
        """One more node, which says that it has a GPU; it ends with the cluster."""
        options = ["--num-cpus=1", "--num-gpus=1", f"--object-store-memory={100 << 20}", "--node-ip-address=127.0.0.1"]
        options += ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        command = [str(Path(sys.executable).with_name("ray")), "start", f"--address={self.joined_at()}", *options]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with started() as cluster:
        yield cluster


@pytest.fixture
def token_cluster() -> Iterator[Cluster]:
    """One that answers only to who has its token, TOKEN."""
    with started(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as cluster:
        yield cluster


@pytest.fixture
def cluster_of_a_head() -> Iterator[Cluster]:
    """One that computes nothing yet: its nodes come later."""
    with started(num_cpus=0) as cluster:
        yield cluster


@contextmanager
def started(num_cpus: int = 2, **variables: str) -> Iterator[Cluster]:
    """A real cluster with its own ports and folder. Its node knows nothing of this repository."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets need a short path
    port = free_port()
    options = [f"--dashboard-port={port}", f"--ray-client-server-port={free_port()}", "--dashboard-agent-listen-port=0"]
    options += ["--port=0", "--min-worker-port=0", "--max-worker-port=0", "--node-ip-address=127.0.0.1"]
    options += [f"--num-cpus={num_cpus}", f"--object-store-memory={200 << 20}", f"--temp-dir={folder}"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | variables
    environment.pop("PYTHONPATH", None)
    with (folder / LOG).open("wb") as log:
        head = subprocess.Popen(
            [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", *options],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}/api/version", head, folder / LOG)
        yield Cluster(f"http://127.0.0.1:{port}", folder)
    finally:
        end(head, folder)


def free_port() -> int:
    """A port that nobody gets by chance: below those that the system gives out, above Ray's own."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def wait_until_it_answers(url: str, head: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        assert head.poll() is None, f"ray start ended with {head.returncode}: {log.read_text()}"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:  # it wants a token: so it is there
            return
        except OSError:
            time.sleep(0.2)


def end(head: subprocess.Popen[bytes], folder: Path) -> None:
    """End the cluster. `ray stop` would end others' too: ours are told by the folder in their command lines."""
    head.kill()
    head.wait()
    while ours := [process for process in psutil.process_iter(["cmdline"]) if is_of(process, folder)]:
        for process in ours:
            process.kill()
        psutil.wait_procs(ours, timeout=5)
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:  # a worker that renamed itself still writes its last lines
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.2)
    assert not folder.exists(), f"a process still writes under {folder}"


def is_of(process: psutil.Process, folder: Path) -> bool:
    return any(str(folder) in word for word in process.info["cmdline"] or ())


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in this process; gives its exit code, stdout and stderr. Tables lie under tmp_path/tables."""
    monkeypatch.setenv("TABLES", str(tmp_path / "tables"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        return run_jobs(*arguments), *capsys.readouterr()

    return call
