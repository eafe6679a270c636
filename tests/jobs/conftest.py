"""A cluster as `ray start --head` makes it, beside whatever else runs on this machine, and all of it gone afterwards."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest


@pytest.fixture(scope="session")
def dashboard() -> Iterator[str]:
    """The address for job submission of a real cluster with two CPUs; its own ports and folder."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's sockets need a short path
    address = f"http://127.0.0.1:{free_port()}"
    head = subprocess.Popen(
        [*start_command(address, folder)],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_until_it_answers(f"{address}/api/version", head)
        yield address
    finally:
        end(head)
        shutil.rmtree(folder, ignore_errors=True)


def start_command(address: str, folder: str) -> list[str]:
    ports = ["dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port"]
    ports += ["metrics-export-port", "ray-client-server-port", "port"]
    options = [f"--{name}={free_port()}" for name in ports]
    options += ["--min-worker-port=0", "--max-worker-port=0", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    options += [f"--dashboard-port={address.rpartition(':')[2]}", f"--temp-dir={folder}", "--disable-usage-stats"]
    options += [f"--object-store-memory={200 << 20}", "--include-log-monitor=false"]
    return [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", *options]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, f"ray start ended with {process.returncode}"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)


def end(head: subprocess.Popen[bytes]) -> None:
    """`ray stop` would end other clusters too: end the process and all that it started."""
    started = psutil.Process(head.pid).children(recursive=True) if head.poll() is None else []
    head.terminate()
    _, alive = psutil.wait_procs([*started, psutil.Process(head.pid)] if head.poll() is None else started, timeout=10)
    for process in alive:
        process.kill()
    head.wait()
