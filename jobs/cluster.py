"""The one place that connects to Ray: the cluster that is there, or a local one for the time of the command."""

import logging
import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
NOT_UPLOADED = [".git", ".venv", "quickstart", "shared", "**/__pycache__", "*.parquet", "*.safetensors"]


def connect() -> None:
    """Connect once: inside a Ray job to its cluster, with RAY_ADDRESS to that one, else start one on this machine.

    Workers import the same sources as this process: a local cluster's from this folder, a remote one's from the
    uploaded working directory (Ray's own job submission has uploaded it already).
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        is_job = bool(os.environ.get("RAY_JOB_ID") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))
        upload = None if is_job else {"working_dir": str(REPOSITORY), "excludes": NOT_UPLOADED}
        ray.init(address=address, runtime_env=upload, logging_level=logging.WARNING, log_to_driver=True)
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody else can reach a local cluster's ports
        ray.init(
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(REPOSITORY)}},
        )
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    num_cpus, num_gpus = (resources.get(kind, 0) for kind in ("CPU", "GPU"))
    print(f"ray: nodes {len(nodes)}, CPUs {num_cpus:g}, GPUs {num_gpus:g}", file=sys.stderr)
