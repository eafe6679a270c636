"""An empty root, and triplets to fill it with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from schemas import Triplets
from tests.rows import frame_of


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables.at(str(tmp_path / "tables"))


@pytest.fixture
def append() -> Callable[..., TableVersion]:
    """append(tables, first, count): a version more, of `count` triplets of as many queries."""

    def append(tables: Tables, first: int, count: int, **options: Any) -> TableVersion:
        queries = [{"query": f"query {number}"} for number in range(first, first + count)]
        with new_version(tables, Triplets, Lineage("ingest", [], Config()), **options) as writer:
            writer.write(frame_of(Triplets, *queries).sort("query_id"))
        return writer.version

    return append
