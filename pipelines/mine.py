"""Mine negatives for (query, positive) pairs: files of pairs, or BEIR folders, become triplets.

    pairs + passages --BM25 ranks first_rank..last_rank, random ones--> triplets@v + quarantined_rows + ingested_files

The passages are all positives of the input, the corpora of its BEIR folders and the --passages file. A negative is
never a passage that the input knows as positive for that query (equal query text is the same query; space around a
text does not make it another), nor the query's own text. What is drawn depends on the query, the set of passages, the
positives and the config, not on the order of rows. Of a BEIR folder the train judgements are mined, or else all.

Memory: pairs and passages are held whole, plus the BM25 index: about 2.5 GB for a million passages of 100 words
(pipelines/search/bm25.py); more than `max_passages` are refused. What was held is printed.
"""

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, product
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from pipelines.intake.accounts import FileCounts, Intake, describe_file
from pipelines.intake.append_triplets import (
    append_triplets,
    existing_triplets,
    not_yet_ingested,
    record_missing_files,
)
from pipelines.intake.beir import BeirSet, is_beir_folder
from pipelines.intake.formats import find_files
from pipelines.intake.layouts import RowChecks, check_named_columns, text_problem
from pipelines.intake.spill import Spill, SpilledTriplet
from pipelines.mining.pairs import Known, Pair, is_mined, known_positives, read_judgements, read_pairs
from pipelines.mining.passages import Passages, read_passages
from pipelines.search.bm25 import Bm25Index
from pipelines.stage.progress import Progress
from pipelines.storage import Lineage, Tables, TableVersion
from pipelines.storage.fingerprint import fingerprint_of
from pipelines.texts.ids import text_id

QUERIES_AT_ONCE = 256


class MineConfig(RowChecks):
    """Which passages become negatives, and what an input row must be. Stored with every version it produced."""

    negatives_per_query: int = Field(4, ge=1)
    """Negatives for each query, random ones included; fewer only where the passages run out."""

    random_negatives: int = Field(1, ge=0)
    """How many of them are drawn from all passages. Where the rank range gives too few, random ones stand in."""

    first_rank: int = Field(10, ge=1)
    """The best BM25 rank that may become a negative. What ranks above it is often an unlabelled positive."""

    last_rank: int = Field(50, ge=1)
    """The worst BM25 rank that may become a negative, inclusive."""

    seed: int = Field(0, ge=0)
    """Draws are seeded by this and the query's id."""

    max_passages: int = Field(2_000_000, ge=2)
    """More distinct passages are refused: they are held in memory."""

    @model_validator(mode="after")
    def _ranks_and_counts_fit(self) -> "MineConfig":
        if self.last_rank < self.first_rank:
            raise ValueError(f"last_rank {self.last_rank} is above first_rank {self.first_rank}; expected a range")
        if self.random_negatives > self.negatives_per_query:
            raise ValueError(
                f"random_negatives {self.random_negatives} exceed negatives_per_query {self.negatives_per_query}, "
                "which includes them"
            )
        return self


def mine_negatives(known: Known, passages: Passages, config: MineConfig) -> Iterator[tuple[str, list[str]]]:
    """(query id, negatives) of every known query; fewer negatives, or none, where passages run out."""
    index = Bm25Index(passages.texts)
    query_ids = sorted(known.queries)
    progress = Progress("mine", "queries", done=0, total=len(query_ids))
    for start in range(0, len(query_ids), QUERIES_AT_ONCE):
        batch = query_ids[start : start + QUERIES_AT_ONCE]
        ranking = index.top([known.queries[query_id] for query_id in batch], config.last_rank)
        for query_id, positions in zip(batch, ranking.positions[:, config.first_rank - 1 :], strict=True):
            ranked = [int(position) for position in positions if position >= 0]
            drawn = draw_negatives(query_id, ranked, known.forbidden[query_id], passages, config)
            yield query_id, [passages.texts[position] for position in drawn]
        progress.advance(len(batch))


def draw_negatives(
    query_id: str, ranked: list[int], forbidden: set[str], passages: Passages, config: MineConfig
) -> list[int]:
    """Positions of one query's negatives: from its BM25 range, then random ones; no two alike but for space around."""
    random = np.random.default_rng([config.seed, int(query_id, 16)])
    taken = set(forbidden)
    drawn: list[int] = []
    from_ranks = (ranked[i] for i in random.permutation(len(ranked)))
    for candidates, wanted in (
        (from_ranks, config.negatives_per_query - config.random_negatives),
        (_random_order(random, len(passages)), config.negatives_per_query),
    ):
        while len(drawn) < wanted and (position := next(candidates, None)) is not None:
            if passages.stripped_ids[position] not in taken:
                taken.add(passages.stripped_ids[position])
                drawn.append(position)
    return drawn


def _random_order(random: np.random.Generator, size: int) -> Iterator[int]:
    """Each position once: drawn one by one at first, all in one permutation when that takes long."""
    seen: set[int] = set()
    for _ in range(100):
        position = int(random.integers(size))
        if position not in seen:
            seen.add(position)
            yield position
    yield from (int(position) for position in random.permutation(size) if position not in seen)


def run(
    tables: Tables,
    inputs: list[str],
    config: MineConfig,
    *,
    passages: str | None = None,
    columns: Mapping[str, str] | None = None,
    source: str | None = None,
    licence: str | None = None,
) -> TableVersion:
    """Append what is new of the mined triplets. Returns the newest triplets version, the old one if nothing was new."""
    columns = columns or {}
    check_named_columns(columns)
    record_missing_files(tables, config)
    judgements = {path: beir for folder in filter(is_beir_folder, inputs) for path, beir in read_judgements(folder)}
    files = [describe_file(path, source, licence) for path in find_files(p for p in inputs if not is_beir_folder(p))]
    files += [describe_file(path, source or beir.name, licence) for path, beir in judgements.items() if is_mined(path)]
    told = json.dumps({**columns, "mined": _fingerprint(files, judgements, passages, config)}, sort_keys=True)
    files = not_yet_ingested(tables, [replace(file, columns=told) for file in files])
    if not files:
        return existing_triplets(tables)
    with tempfile.TemporaryDirectory(prefix="mine-") as folder:
        spill = Spill(Path(folder), config.negatives_per_query * sum(Path(file.path).stat().st_size for file in files))
        intake = Intake(config, spill, columns, own_source=source is None)
        pairs = [pair for file in files for pair in read_pairs(intake, file, judgements.get(file.path))]
        known = known_positives(pairs, judgements.values())
        negatives = mine_negatives(known, _all_passages(pairs, judgements.values(), passages, config), config)
        _spill_triplets(intake, pairs, dict(negatives))
        return append_triplets(tables, spill, intake.files, Lineage("mine", [], config))


def _fingerprint(
    files: list[FileCounts], judgements: Mapping[str, BeirSet], passages: str | None, config: MineConfig
) -> str:
    """Of everything that decides the negatives; in ingested_files it tells one mining of a file from another."""
    passage_files = [describe_file(path, None, None).sha256 for path in find_files([passages] if passages else [])]
    contents = sorted({file.sha256 for file in files} | {beir.digest for beir in judgements.values()})
    return fingerprint_of([config.model_dump(mode="json"), contents, sorted(passage_files)])


def _all_passages(
    pairs: list[Pair], judgements: Iterable[BeirSet], passages: str | None, config: MineConfig
) -> Passages:
    positives = (text for pair in pairs for text in pair.row.positives)
    corpora = (text for beir in judgements for text in beir.corpus.values())
    good = (text for text in corpora if text_problem(text, config.max_text_chars) is None)
    collected = Passages(
        chain(positives, good, read_passages(passages, config) if passages else ()), config.max_passages
    )
    held = f"{len(pairs):,} pairs and {len(collected):,} passages"
    print(f"mine: holds {held} in memory, {collected.num_bytes >> 20:,} MB of passages", file=sys.stderr)
    return collected


def _spill_triplets(intake: Intake, pairs: list[Pair], negatives: Mapping[str, list[str]]) -> None:
    for file, source_row, row in pairs:
        found = negatives[text_id(row.query)]
        if not found:
            intake.quarantine(file, source_row, ["no_negative_found"], row.query[:1000])
        default = intake.files[file].source
        for positive, negative in product(row.positives, found):
            triplet = (row.query, positive, negative, row.source or default, row.external_id, file, source_row)
            intake.spill.add(SpilledTriplet(*triplet))
    for position in range(len(intake.files)):
        intake.refuse_if_mostly_bad(position)
