"""The one place that connects to Ray: the cluster that is there, or a local one for the time of the command."""

import logging
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any, TextIO, cast

from pipelines.stage.terminal import Terminal

REPOSITORY = Path(__file__).parents[1]
NOT_UPLOADED = [  # beside what .gitignore names
    *(".git", ".venv", "quickstart", "shared", "/tables", "/data", "/models"),
    *("__pycache__", ".*_cache", "_delta_log", "*.parquet", "*.safetensors"),
]
RAYS_LINE = re.compile(r"\[[-0-9]+ [:,0-9]+ [DIWE] \d+ \d+\] ")  # of its C++ code, unless it is fatal
IS_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray sets in the environment of a job's command


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
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # a run's end is noticed so much later
    import ray

    if ray.is_initialized():
        return
    if not isinstance(sys.stdout, ResultsAlone):
        sys.stdout = cast(TextIO, ResultsAlone(sys.stdout))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _start_or_join(os.environ.get("RAY_ADDRESS"))
    except Exception as error:  # Ray raises plain ones: a time-out, ports taken, an address nobody answers at
        where = os.environ.get("RAY_ADDRESS", "on this machine")
        raise OSError(f"Ray could not be started or reached ({where}): {error}") from error
    for number, handler in handlers.items():  # Ray's own handler of SIGTERM exits with the signal's number
        signal.signal(number, handler)
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_cpus, num_gpus = (resources.get(kind, 0) for kind in ("CPU", "GPU"))
    print(f"ray: nodes {len(nodes)}, CPUs {num_cpus:g}, GPUs {num_gpus:g}", file=sys.stderr)


def _start_or_join(address: str | None) -> None:
    import ray

    _leave_rays_log_to_ray()
    if address:
        upload = None if os.environ.get(IS_RAY_JOB) else uploaded_sources()
        ray.init(address=address, runtime_env=upload, logging_level=logging.WARNING, log_to_driver=True)
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody else can reach a local cluster's ports
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process more; this node is not preempted
        # A second is Ray's default: tasks that come every few seconds would start a process each time.
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
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
