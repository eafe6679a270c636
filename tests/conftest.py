"""What must be set before torch, transformers or ray are imported: no network, one thread, a quiet Ray."""

import os

os.environ.update(
    HF_HUB_OFFLINE="1",
    RAY_AUTH_MODE="disabled",  # Ray's default writes a token file into the home folder
    RAY_USAGE_STATS_ENABLED="0",
    RAY_TRAIN_V2_ENABLED="1",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")


from collections.abc import Iterator  # the environment above comes first
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster for all tests that need one; its workers import this repository."""
    import ray

    environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    ray.init(
        address="local",  # whatever other cluster is there
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    yield
    ray.shutdown()
