"""Does a Ray cluster answer at an address? Asked with time-outs of our own: Ray has none, or minutes.

RAY_ADDRESS: HOST:PORT speaks gRPC        --address: a dashboard speaks HTTP
"""

import http.client
import json
import os
import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from pipelines.stage.errors import UserError

TIMEOUT_S = 10.0
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # with empty settings
SETTINGS = 4  # the type of the frame that every HTTP/2 server, and so every gRPC server, begins with


def host_and_port(address: str, name: str) -> tuple[str, int]:
    """Of HOST:PORT or ray://HOST:PORT. Raises UserError for anything else."""
    scheme, found, rest = address.rpartition("://")
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port or (10001 if scheme == "ray" else None)
    except ValueError:
        host = port = None
    if (found and scheme != "ray") or not host or not port:
        raise UserError(f"{name} is {address!r}; expected HOST:6379, ray://HOST:10001, auto or local")
    return host, port


def answers_as_ray(host: str, port: int, address: str) -> None:
    """Raises OSError, which names the address, when no gRPC server answers there."""
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.settimeout(TIMEOUT_S)
            connection.sendall(HTTP2_HELLO)
            answer = connection.recv(9)
    except OSError as error:
        raise OSError(f"no Ray cluster answers at {address}: {error}; is it up, and is that its address?") from error
    if answer[3:4] != bytes([SETTINGS]):
        raise OSError(f"what answers at {address} is no Ray cluster (no gRPC); expected HOST:6379 or ray://HOST:10001")


def answers_as_dashboard(address: str) -> str:
    """The dashboard's URL. Raises UserError for what is no URL or no dashboard, OSError when nothing answers."""
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or address == "auto":
        raise UserError(f"--address {address}: expected the dashboard's, e.g. http://HEAD:8265")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/api/version", timeout=TIMEOUT_S) as answer:
            told = json.loads(answer.read(1 << 16))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # then Ray's client, imported later, sends the one it finds
            return url
        told = None
    except (ValueError, http.client.HTTPException):
        told = None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise OSError(f"no dashboard answers at --address {address}: {reason}; is the cluster up?") from error
    if not isinstance(told, dict) or "ray_version" not in told:
        raise UserError(f"--address {address}: what answers there is no Ray dashboard; expected e.g. http://HEAD:8265")
    return url


def without_token(where: str, error: BaseException) -> UserError:
    """What Ray says at length of a cluster's token that is missing or wrong, in one line."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    found = "another one was sent" if "incorrect" in str(error) else "none was found here"
    if mode.lower() != "token":
        found = f"none was sent, since RAY_AUTH_MODE is {mode!r} here"
    return UserError(
        f"the cluster at {where} answers only to who has its token, and {found}; expected RAY_AUTH_MODE=token, and "
        "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, which names a file that holds it"
    )
