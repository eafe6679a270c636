"""A cluster that does not answer, answers something else, or is no address: told at once, with the address."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from jobs import reach
from jobs.cluster import check
from pipelines.stage.errors import UserError
from tests.in_process import run_jobs

ANSWERS = {
    "http": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "not found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "words": b"220 mail server ready\r\n",
    "nothing": b"",
}


@pytest.fixture
def listening() -> Iterator[dict[str, str]]:
    """What is said -> HOST:PORT of a server that takes a connection and says it; "nothing" keeps it open."""
    servers = {said: socket.create_server(("127.0.0.1", 0)) for said in ANSWERS}
    with ExitStack() as kept:

        def serve(server: socket.socket, answer: bytes) -> None:
            with suppress(OSError):  # once it is shut down, or the other side has gone
                while True:
                    connection = kept.enter_context(server.accept()[0])
                    if answer:
                        connection.recv(1 << 12)
                        connection.sendall(answer)

        threads = [threading.Thread(target=serve, args=(server, ANSWERS[said])) for said, server in servers.items()]
        for thread in threads:
            thread.start()
        yield {said: f"127.0.0.1:{server.getsockname()[1]}" for said, server in servers.items()}
        for server in servers.values():
            server.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for server in servers.values():
            server.close()


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("127.0.0.1:9", OSError, "no Ray cluster answers at 127.0.0.1:9: .*refused"),
        ("ray://127.0.0.1:9", OSError, "no Ray cluster answers at ray://127.0.0.1:9"),
        ("no.such.host.invalid:6379", OSError, "no Ray cluster answers at no.such.host.invalid:6379"),
        ("{nothing}", OSError, "no Ray cluster answers at {nothing}: timed out"),
        ("{words}", OSError, "what answers at {words} is no Ray cluster"),
        ("{http}", OSError, "what answers at {http} is no Ray cluster"),
        ("head", UserError, "RAY_ADDRESS is 'head'; expected HOST:6379"),
        ("head:port", UserError, "RAY_ADDRESS is 'head:port'; expected"),
        ("foo://head:6379", UserError, "RAY_ADDRESS is 'foo://head:6379'; expected"),
        ("http://head:8265", UserError, "a dashboard; expected .* jobs submit --address http://head:8265"),
    ],
)
def test_a_cluster_that_ray_would_wait_for_is_told_with_its_address(monkeypatch, listening, address, error, message):
    monkeypatch.setattr(reach, "TIMEOUT_S", 0.3)
    monkeypatch.setenv("RAY_ADDRESS", address.format(**listening))

    with pytest.raises(error, match=message.format(**listening)):
        check()


@pytest.mark.parametrize(
    ("address", "code", "message"),
    [
        ("foo://x", 2, "--address foo://x: expected the dashboard's"),
        ("auto", 2, "--address auto: expected"),
        ("http://", 2, "expected the dashboard's, e.g. http://HEAD:8265"),
        ("http://127.0.0.1:99999", 2, "expected the dashboard's"),
        ("http://{nothing}", 1, "no dashboard answers at --address http://{nothing}"),
        ("{nothing}", 1, "no dashboard answers at --address {nothing}"),
        ("http://no.such.host.invalid:8265", 1, "no dashboard answers at"),
        ("http://{http}", 2, "no Ray dashboard"),
        ("http://{words}", 2, "no Ray dashboard"),
        ("http://{not found}", 2, "no Ray dashboard"),
    ],
)
def test_a_dashboard_that_is_none_is_told(monkeypatch, capsys, listening, address, code, message):
    monkeypatch.setattr(reach, "TIMEOUT_S", 0.3)

    assert run_jobs("submit", "--address", address.format(**listening), "--", "models") == code
    told = capsys.readouterr().err
    assert message.format(**listening) in told
    assert "Traceback" not in told


def test_a_server_that_speaks_http2_is_taken_for_a_cluster():
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()

        def serve() -> None:
            connection, _ = server.accept()
            connection.sendall(bytes([0, 0, 6, reach.SETTINGS, 0, 0, 0, 0, 0]))
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        reach.answers_as_ray(host, port, "it")


def test_a_temporary_folder_that_cannot_hold_rays_sockets_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = tmp_path / ("x" * 80)
    monkeypatch.setenv("TMPDIR", str(long))
    with pytest.raises(UserError, match=r"x \(TMPDIR\) is not there; make it, or set TMPDIR=/tmp"):
        check()
    long.mkdir()
    with pytest.raises(UserError, match=r"too long for Ray: .* \d+ bytes, 107 are allowed; set RAY_TMPDIR=/tmp"):
        check()
    monkeypatch.setenv("RAY_TMPDIR", "/proc")
    with pytest.raises(UserError, match=r"/proc cannot be written"):
        check()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    check()


def test_more_than_this_machine_has_is_refused(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")

    check(cpus=os.cpu_count(), use_gpu=False, claimed_by="distill.num_workers")
    with pytest.raises(UserError, match=r"distill.num_workers asks for 9999 CPUs, but this machine has"):
        check(cpus=9999, use_gpu=False, claimed_by="distill.num_workers")
