"""Small curated_triplets versions by a real curation of scored rows, and queries that fall into a split."""

from collections.abc import Iterable
from itertools import count, islice
from pathlib import Path

from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.storage import Tables, TableVersion
from tests.rows import split_of_text
from tests.scored_versions import Row, scored_rows, write_scored, write_triplets

HALF = CurateConfig(test_share=0.5, dev_share=0.0, max_drop_share=1.0)


def query_in(split: str, number: int = 0, config: CurateConfig = HALF) -> str:
    """The number-th made-up query that falls into a split."""
    names = (f"question {index}" for index in count())
    falls = (name for name in names if split_of_text(name, config.dev_share, config.test_share) == split)
    return next(islice(falls, number, None))


def curated(tmp_path: Path, rows: Iterable[Row], config: CurateConfig = HALF) -> TableVersion:
    """The version that a curation of these scored rows makes."""
    scored = scored_rows(rows)
    tables = Tables.at(str(tmp_path / "tables"))
    return curate.run(write_scored(write_triplets(tables, scored), scored), config).version
