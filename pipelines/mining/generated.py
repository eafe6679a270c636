"""A version of generated_queries as what mine reads: its pairs, their hard negatives, and all of its passages.

    generated_queries@v --rows with a pair, of the generator that made v--> a pair, and its negative labelled 0

Each pair stands in two rows, numbered from 1: itself, then its negative if it has one. A passage that was judged to
answer a query is never drawn as its negative. The passages to draw from are those of all rows, with a pair or without.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl

from pipelines.intake.formats import Input
from pipelines.intake.input_files import InputFile
from pipelines.intake.raw_rows import RawRow, in_batches
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import GenerationResult

TABLE = "generated_queries"
GIVEN = re.compile(rf"(.*/)?{TABLE}(@\d+)?/?")
COLUMNS = ("query", "positive", "label", "source", "external_id")


@dataclass(frozen=True)
class GeneratedQueriesInput(InputFile):
    """One generator's rows at one version, where a file would be."""

    version: TableVersion = field(kw_only=True)
    generator: str = field(kw_only=True)

    @cached_property
    def rows(self) -> pl.DataFrame:
        """By passage id, with a pair or without."""
        rows = self.version.scan().filter(pl.col("generator") == self.generator)
        names = ["passage_id", "passage", "query", "positive", "negative", "relevant_ids", "reason"]
        return rows.select(*names, "source", "external_id").sort("passage_id").collect()

    @cached_property
    def pairs(self) -> pl.DataFrame:
        return self.rows.filter(pl.col("reason").is_null())

    @cached_property
    def sha256(self) -> str:
        """Of the rows themselves: they are the same in whichever files and version they lie."""
        digest = hashlib.sha256(self.generator.encode())
        for line in self.rows.drop("relevant_ids", "reason").iter_rows():
            digest.update(repr(line).encode())
        return digest.hexdigest()

    @property
    def size_bytes(self) -> int:
        return int(self.rows.estimated_size())

    def open(self) -> Input:
        """Raises UserError where there is no pair."""
        if self.pairs.is_empty():
            raise UserError(f"{self.path} has no query with a positive by {self.generator}; see its column reason")
        return Input(self.path, COLUMNS, lambda _: in_batches(self._raw_rows()))

    def _raw_rows(self) -> Iterator[RawRow]:
        for place, row in enumerate(self.pairs.iter_rows(named=True)):
            common = {"query": row["query"], "source": row["source"], "external_id": row["external_id"]}
            yield RawRow(2 * place + 1, common | {"positive": row["positive"], "label": 1})
            if row["negative"] is not None:
                yield RawRow(2 * place + 2, common | {"positive": row["negative"], "label": 0})

    def judged_relevant(self) -> Iterator[tuple[str, str]]:
        """(query, passage) of all that was judged to answer a query."""
        texts = dict(self.rows.select("passage_id", "passage").iter_rows())
        for query, relevant in self.pairs.select("query", "relevant_ids").iter_rows():
            yield from ((query, texts[one]) for one in relevant or () if one in texts)


def take_generated(tables: Tables, inputs: Sequence[str]) -> tuple[list[GeneratedQueriesInput], list[str]]:
    """The inputs that are generated queries of this root, by name or as a folder, and the others."""
    versions = {given: version for given in inputs if (version := _version(tables, given))}
    found = {str(version): version for version in versions.values()}  # given twice it is read once
    return list(map(of_version, found.values())), [given for given in inputs if given not in versions]


def of_version(version: TableVersion) -> GeneratedQueriesInput:
    """The rows of the generator that made a version; what it lacks yet is said. Raises UserError where none did."""
    result = version.usable().origin().commit.reports(GenerationResult)
    if result is None:
        raise UserError(f"{version} was not made by generate; see `python -m jobs history {TABLE}`")
    if result.complete is None:
        tell(f"{version} is not complete: what {result.generator} has written so far is taken")
    licence = ", ".join(sorted({file.licence for file in result.ingested_files if file.licence})) or None
    found = version.scan().select(pl.col("generator").unique()).collect()["generator"]
    if others := sorted({*found} - {result.generator}):
        tell(f"{version}: the rows of {result.generator} are taken, not those of {first_of(others)}")
    return GeneratedQueriesInput(
        str(version), TABLE, licence=licence, is_ours=True, version=version, generator=result.generator
    )


def _version(tables: Tables, given: str) -> TableVersion | None:
    """The version that an input names, `generated_queries`, `generated_queries@7` or the root's own folder of it."""
    if not (match := GIVEN.fullmatch(given)):
        return None
    folder, number = Path(given.rstrip("/").removesuffix(match[2] or "")), match[2]
    is_here = tables.is_local and folder.resolve() == Path(tables.path(TABLE)).resolve()
    if (match[1] or folder.exists()) and not is_here:
        return None
    if number:
        return tables.parse(f"{TABLE}{number}")
    newest = tables.newest(TABLE, lambda one: one.commit.reports(GenerationResult) is not None)
    if newest is None:
        raise UserError(f"there is no table {TABLE} under {tables.uri}; run `python -m jobs generate` first")
    tell(f"from {newest} (the newest)")
    return newest
