"""Files of triplets, their ingestion, and what the tables hold afterwards."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from pipelines import ingest
from pipelines.ingest import IngestConfig
from pipelines.storage import Tables, TableVersion


def row(query: Any = "q", positive: Any = "p", negative: Any = "n", **others: Any) -> dict[str, Any]:
    return {"query": query, "positive": positive, "negative": negative, **others}


def write(folder: Path, *rows: dict[str, Any], name: str = "train.jsonl") -> str:
    """The rows as JSON Lines below the folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(tables: Tables, *inputs: str, columns: dict[str, str] | None = None, **options: Any) -> TableVersion:
    """Ingest the inputs; options are those of the config and of ingest.run."""
    config = IngestConfig(**{key: options.pop(key) for key in list(options) if key in IngestConfig.model_fields})
    return ingest.run(tables, list(inputs), config, columns=columns or {}, **options)


def rows_of(tables: Tables, name: str, *columns: str) -> list[tuple[Any, ...]]:
    """The table's rows; none where there is no table."""
    version = tables.latest(name)
    return [] if version is None else version.scan().select(columns or pl.all()).collect().rows()


def counts(tables: Tables) -> list[list[int]]:
    """[rows, triplets, duplicates, quarantined] of each ingested file, by its path."""
    files = rows_of(tables, "ingested_files", "path", "rows", "triplets", "duplicates", "quarantined")
    return [numbers for _, *numbers in sorted(files)]
