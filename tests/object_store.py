"""An object store in memory that speaks S3, in a process of its own: moto's server."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


PORT = _free_port()
SETTINGS = {
    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "stands-nowhere-else",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}
"""How it is reached, once it runs; Ray's workers have it from the beginning."""


@contextmanager
def running() -> Iterator[None]:
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait(server)
            yield
        finally:
            server.terminate()


def _wait(server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(SETTINGS["AWS_ENDPOINT_URL"], timeout=5).close()
        except OSError:
            assert server.poll() is None, "the object store ended at once"
            assert time.monotonic() < deadline, "the object store does not answer"
            time.sleep(0.1)
