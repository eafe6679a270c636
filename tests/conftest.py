"""What must be set before torch, transformers or ray are imported: no network, one thread, a quiet Ray, no root."""

import os

from jobs.cluster import OF_A_LOCAL_CLUSTER, OF_ANY_CLUSTER

os.environ.update(
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    **OF_ANY_CLUSTER,
    **OF_A_LOCAL_CLUSTER,  # its workers start as those of a command do
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("TABLES", None)  # whoever runs the tests may have a root; tests name theirs


import uuid  # the environment above comes first
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import object_store


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster for all tests that need one; its workers import this repository."""
    import ray

    environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"} | object_store.SETTINGS
    with pytest.MonkeyPatch.context() as inherited:  # Ray's own way, a runtime environment, starts each worker anew
        for name, value in environment.items():
            inherited.setenv(name, value)
        ray.init(
            address="local",  # whatever other cluster is there
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def object_store_server() -> Iterator[None]:
    with object_store.running():
        yield


@pytest.fixture(scope="module")
def bucket(object_store_server: None) -> Iterator[str]:
    """s3:// and the name of an empty bucket; for as long, the environment says how it is reached."""
    from pyarrow import fs

    with pytest.MonkeyPatch.context() as environment:
        for name, value in object_store.SETTINGS.items():
            environment.setenv(name, value)
        name = f"tests-{uuid.uuid4().hex[:8]}"
        host = object_store.SETTINGS["AWS_ENDPOINT_URL"].removeprefix("http://")
        fs.S3FileSystem(endpoint_override=host, scheme="http", allow_bucket_creation=True).create_dir(name)
        yield f"s3://{name}"
