"""Passages and their rows of generated_queries, each passage once for a generator (pipelines/asking/book.py)."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from pipelines.asking.book import Book, Plan
from pipelines.generation.config import GenerateConfig
from pipelines.storage import Lineage, Tables
from pipelines.storage.commits import GenerationResult, IngestedFile
from schemas import GeneratedQueries


def book_of(tables: Tables, config: GenerateConfig, files: Sequence[IngestedFile]) -> Book:
    """The generator's rows; commits name the files of passages."""

    def describe(**result: Any) -> Lineage:
        told = GenerationResult(generator=config.generator, ingested_files=tuple(files), **result)
        return Lineage("generate", [], config, told)

    return Book(tables, GeneratedQueries, config.role, config.generator, describe)


def plan(book: Book, passages: pl.DataFrame, config: GenerateConfig) -> Plan:
    """Of these passages (by their ids), those that `max_passages` takes, less what the generator has asked."""
    return book.plan(passages.head(config.max_passages or len(passages)).with_row_index("position"))
