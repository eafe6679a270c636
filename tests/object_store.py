"""An object store in memory that speaks S3, in a process of its own, moto's server; and what can go wrong before it."""

import http.client
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


PORT = _free_port()
OUTAGE_S = 6.0
"""Longer than any library waits by itself for a store that answers with errors, shorter than we do."""

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
    command = [sys.executable, "-m", "tests.object_store", str(PORT)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
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


class Request(NamedTuple):
    """What a client asks; the headers may be changed."""

    method: str
    path: str
    headers: Message


class Proxy(ThreadingHTTPServer):
    """Stands before the server, and does to its answers what `fault` says."""

    daemon_threads = True

    def __init__(
        self,
        fault: Callable[[Request], int | None] = lambda request: None,
        loses: Callable[[Request], bool] = lambda request: False,
    ) -> None:
        """What goes wrong.

        Args:
            fault: the status that a request is answered with instead of being done, or None.
            loses: whether a request is done and then answered with 500 all the same.
        """
        super().__init__(("127.0.0.1", 0), _Forward)
        self.fault, self.loses = fault, loses

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def serving(self) -> Iterator["Proxy"]:
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _forward(self) -> None:
        body = self._body()
        request = Request(self.command, self.path, self.headers)
        if status := self.server.fault(request):
            return self._answer(status, [], b"")
        there = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        there.request(self.command, self.path, body, dict(self.headers))
        answer = there.getresponse()
        if self.server.loses(request):
            return self._answer(500, [], b"")
        self._answer(answer.status, answer.getheaders(), answer.read())

    def _body(self) -> bytes:
        """Whole, however it comes; what says how it came goes out of the headers."""
        del self.headers["Expect"]
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        del self.headers["Transfer-Encoding"]
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        own = {"content-length", "transfer-encoding", "connection"}
        for name, value in headers:
            if name.lower() not in own or (self.command == "HEAD" and name.lower() == "content-length"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests' own output is read."""


def _serve(port: int) -> None:
    """moto's server, which looks whether a key stands and then writes it: of two writers at once both could win."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import run_simple

    one_write = threading.Lock()

    class OneWriteAtATime(DomainDispatcherApplication):
        def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
            with nullcontext() if environ["REQUEST_METHOD"] in ("GET", "HEAD") else one_write:
                return super().__call__(environ, start_response)

    run_simple(
        "127.0.0.1", port, OneWriteAtATime(create_backend_app), threaded=True, request_handler=MotoRequestHandler
    )


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
