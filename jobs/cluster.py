"""The one place that connects to Ray: the cluster that is there, or a local one for the time of the command."""

import logging
import os
import re
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO, cast

from jobs.reach import answers_as_ray, host_and_port, without_token
from pipelines.stage.cluster import named_cluster
from pipelines.stage.cpu_libraries import CPU_LIBRARIES
from pipelines.stage.disk import check_writable
from pipelines.stage.errors import UserError
from pipelines.stage.terminal import Terminal

REPOSITORY = Path(__file__).parents[1]
NOT_UPLOADED = [  # beside what .gitignore names
    *(".git", ".venv", "quickstart", "shared", "/tables", "/data", "/models"),
    *("__pycache__", ".*_cache", "_delta_log", "*.parquet", "*.safetensors"),
]
RAYS_LINE = re.compile(r"\[[-0-9]+ [:,0-9]+ [DIWE] \d+ \d+\] ")  # of its C++ code, unless it is fatal
LONGEST_SOCKET = "ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
LONGEST_PATH = 107 if sys.platform == "linux" else 103  # bytes of a Unix socket's
JOINING_S = 40  # where what answers is no cluster's head, Ray tries for two minutes
IS_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray sets in the environment of a job's command


OF_ANY_CLUSTER = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a run's end is noticed so much later
}
OF_A_LOCAL_CLUSTER = {
    "RAY_AUTH_MODE": "disabled",  # nobody else can reach its ports
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more; this node is not preempted
    # A second is Ray's default: tasks that come every few seconds would start a process each time.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
}
"""Of the environment, where a user has not set them."""


def uploaded_sources() -> dict[str, Any]:
    """The part of a Ray runtime environment that brings this repository's sources to the cluster, without data."""
    return {"working_dir": str(REPOSITORY), "excludes": NOT_UPLOADED}


class ResultsAlone:
    """stdout for what the command prints; what threads print is Ray's (workers' lines, warnings): to stderr."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def __getattr__(self, name: str) -> Any:
        is_main = threading.current_thread() is threading.main_thread()
        return getattr(self._stdout if is_main else sys.stderr, name)


def connect() -> None:
    """Connect once: inside a Ray job to its cluster, with RAY_ADDRESS to that one, else start one on this machine.

    Workers import the same sources as this process: a local cluster's from this folder, a remote one's from the
    uploaded working directory (Ray's own job submission has uploaded it already).
    """
    _set_defaults(OF_ANY_CLUSTER)
    import ray

    if ray.is_initialized():
        return
    if not isinstance(sys.stdout, ResultsAlone):
        sys.stdout = cast(TextIO, ResultsAlone(sys.stdout))
    check()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    named = named_cluster()
    try:
        _start_or_join(named)
    except (Exception, SystemExit) as error:  # Ray raises plain ones: a time-out, ports taken; it exits when given up
        where = named or "on this machine"
        refused = error.__cause__ or error
        if "AuthenticationError" in repr(refused):  # as a traceback in another error's text
            raise without_token(where, refused) from error
        wanted = "its address, and a head that is up" if named else "CPUs and memory that others leave it"
        raise OSError(f"Ray could not be started or reached ({where}): {error}; expected {wanted}") from error
    for number, handler in handlers.items():  # Ray's own handler of SIGTERM exits with the signal's number
        signal.signal(number, handler)
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_cpus, num_gpus = (resources.get(kind, 0) for kind in ("CPU", "GPU"))
    print(f"ray: nodes {len(nodes)}, CPUs {num_cpus:g}, GPUs {num_gpus:g}", file=sys.stderr)


def read_at_import() -> dict[str, str]:
    """The variables that Ray reads when it is imported, for a cluster that may want a token: the defaults for a user's.

    The nodes of such a cluster may be yet to come: where they are too few, Ray Train asks anew every minute otherwise.
    """
    if not named_cluster():
        return {}
    has_token = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    return {
        "RAY_NUM_REDIS_GET_RETRIES": "5",  # `check` saw it answer: more are of no use to a wrong token
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1800",
        **({"RAY_AUTH_MODE": "token"} if has_token else {}),
    }


def check(*, cpus: float = 0, use_gpu: bool | None = None, claimed_by: str = "") -> None:
    """Before anything is done: does the named cluster answer, or has this machine what a local one needs?

    Args:
        cpus: that are claimed at once, where no GPU is.
        use_gpu: whether GPUs are claimed; None is where there are any.
        claimed_by: the recipe's field that says so.
    Raises:
        UserError: an address that is none, a temporary folder that cannot serve, or more claimed than there is.
        OSError: the cluster does not answer.
    """
    if named := named_cluster():
        _check_answers(named)
        return
    _check_temporary_folder()
    has_gpu = any(Path("/dev").glob("nvidia[0-9]*")) or any(map(os.path.exists, ("/dev/dxg", "/dev/kfd")))
    if use_gpu and not has_gpu:
        raise UserError(f"{claimed_by} asks for GPUs, but this machine has none; leave use_gpu out, or set RAY_ADDRESS")
    if not (use_gpu or (use_gpu is None and has_gpu)) and cpus > (os.cpu_count() or cpus):
        raise UserError(
            f"{claimed_by} asks for {cpus:g} CPUs, but this machine has {os.cpu_count()}: it would wait for ever. "
            "Lower it, or set RAY_ADDRESS to a cluster that has them"
        )


def _check_answers(named: str) -> None:
    """Ray itself tries for minutes, or for ever where something else listens."""
    if named.startswith(("http://", "https://")):
        raise UserError(
            f"RAY_ADDRESS is {named}, a dashboard; expected HOST:6379, ray://HOST:10001, auto or local. To run there: "
            f"python -m jobs submit --address {named} -- ..."
        )
    if named == "auto":
        current = Path(_temporary_folder(), "ray", "ray_current_cluster")  # where `ray start` leaves its address
        if not current.is_file():
            return  # Ray looks at processes, which is quick
        named = current.read_text().strip()
    answers_as_ray(*host_and_port(named, "RAY_ADDRESS"), named)


def _temporary_folder() -> str:
    """Ray's choice."""
    return os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp"))


def _check_temporary_folder() -> None:
    """Ray's sockets lie in it, and the path of a socket has an end."""
    folder = _temporary_folder()
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    if not Path(folder).is_dir():
        raise UserError(f"the temporary folder {folder} ({name}) is not there; make it, or set {name}=/tmp")
    check_writable(folder, f"the temporary folder ({name})")
    length = len(os.fsencode(Path(folder).absolute() / LONGEST_SOCKET))
    if length > LONGEST_PATH:
        raise UserError(
            f"the temporary folder {folder} ({name}) is too long for Ray: its sockets' paths would have {length} "
            f"bytes, {LONGEST_PATH} are allowed; set RAY_TMPDIR=/tmp, or another short folder"
        )


def _give_up(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(f"no cluster joined in {JOINING_S} s")  # no Exception: Ray would try again


def _set_defaults(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _start_or_join(address: str | None) -> None:
    import ray

    _leave_rays_log_to_ray()
    if address:
        upload = None if os.environ.get(IS_RAY_JOB) else uploaded_sources() | {"env_vars": CPU_LIBRARIES}
        signal.signal(signal.SIGALRM, _give_up)
        signal.alarm(JOINING_S)
        try:
            ray.init(address=address, runtime_env=upload, logging_level=logging.WARNING, log_to_driver=True)
        finally:
            signal.alarm(0)
    else:
        _set_defaults(OF_A_LOCAL_CLUSTER)
        # Inherited by the workers; as a runtime environment it would make Ray's prestarted ones useless.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)


def _leave_rays_log_to_ray() -> None:
    """What Ray's C++ code tells on descriptor 2 stands in Ray's own log; all other lines there go on to stderr.

    Each pool of actors would begin with an error: Ray Data gives them arguments in the object store (Ray issue 57733).
    These are held until the pool ends, so that its actors do restart.
    """
    sys.stderr.flush()
    stream = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors)
    sys.stderr = Terminal.of(stream)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    threading.Thread(target=_pass_on, args=(reading, sys.stderr), daemon=True).start()


def _pass_on(reading: int, stream: TextIO) -> None:
    with os.fdopen(reading, errors="backslashreplace") as lines:
        for line in lines:
            if not RAYS_LINE.match(line):
                stream.write(line)
                stream.flush()
