"""Mine negatives for (query, positive) pairs: files of pairs, or BEIR folders, become triplets.

    pairs + passages --BM25 ranks first_rank..last_rank, random ones--> triplets@v + quarantined_rows + ingested_files

The passages are all positives of the input, the corpora of its BEIR folders and the --passages file. A negative is
never a passage that the input knows as positive for that query, nor the query's own text or document; case,
punctuation, spacing and Unicode's spellings make no other query and no other passage (`normalise` in
pipelines/texts/comparison.py). What is drawn depends on the query, the set of passages, the positives and the config,
not on the order of rows. A pair labelled 0 is no positive: its passage is a negative given to its query, beside those
that are drawn. Of a BEIR folder the train judgements are mined, or else all.

Memory: pairs and passages are held whole, plus the BM25 index: about 2.5 GB for a million passages of 100 words
(pipelines/search/bm25.py); more than `max_passages` are refused. What was held is printed.
"""

import json
from collections.abc import Mapping

from pydantic import Field

from pipelines.intake.accounts import FileCounts, Intake, describe_file
from pipelines.intake.append_triplets import append_new, record_missing_files
from pipelines.intake.beir import BeirSet, is_beir_folder
from pipelines.intake.delimited import Quoting
from pipelines.intake.find_files import find_files
from pipelines.intake.input_files import InputFile
from pipelines.intake.layouts import RowChecks, check_named_columns
from pipelines.mining.draw import Candidate, DrawConfig, mine_negatives
from pipelines.mining.inputs import (
    Known,
    Pair,
    Passages,
    all_passages,
    is_mined,
    known_positives,
    read_judgements,
    read_pairs,
)
from pipelines.storage import Tables, TableVersion
from pipelines.storage.fingerprint import fingerprint_of
from pipelines.texts.ids import text_id


class MineConfig(DrawConfig, RowChecks):
    """Which passages become negatives, and what an input row must be. Stored with every version it produced."""

    max_passages: int = Field(2_000_000, ge=2)
    """More distinct passages are refused: they are held in memory."""


def run(
    tables: Tables,
    inputs: list[str],
    config: MineConfig,
    *,
    passages: str | None = None,
    columns: Mapping[str, str] | None = None,
    quoting: Quoting | None = None,
    source: str | None = None,
    licence: str | None = None,
    closed: str | None = None,
) -> TableVersion:
    """Append what is new of the mined triplets. Returns the newest triplets version, the old one if nothing was new."""
    columns = columns or {}
    check_named_columns(columns)
    record_missing_files(tables, config)
    judgements = {path: beir for folder in filter(is_beir_folder, inputs) for path, beir in read_judgements(folder)}
    found = find_files((path for path in inputs if not is_beir_folder(path)), quoting)
    found += [InputFile(path, beir.name, quoting=quoting) for path, beir in judgements.items() if is_mined(path)]
    files = [describe_file(file, source, licence) for file in found]
    passage_files = find_files([passages] if passages is not None else [], quoting)
    told = {**columns, "mined": _fingerprint(files, judgements, passage_files, config)}
    for file in files:
        file.columns = json.dumps({**told, **file.found.told}, sort_keys=True)

    def spill_rows(intake: Intake) -> None:
        pairs = list(read_pairs(intake, judgements, columns, own_source=source is None))
        known = known_positives(pairs, judgements.values())
        drawn_from = all_passages(pairs, judgements.values(), passage_files, config, config.max_passages, known)
        negatives = dict(mine_negatives(known, drawn_from, config, _sources(intake, pairs)))
        _spill_mined(intake, pairs, drawn_from, known, negatives)

    per_row = config.negatives_per_query
    return append_new(tables, "mine", config, files, spill_rows, triplets_per_row=per_row, closed=closed)


def _sources(intake: Intake, pairs: list[Pair]) -> dict[str, set[str]]:
    """Query id -> the sources whose rows ask it."""
    sources: dict[str, set[str]] = {}
    for position, _, row in pairs:
        if row.is_positive:
            sources.setdefault(text_id(row.query), set()).add(row.source or intake.files[position].source)
    return sources


def _fingerprint(
    files: list[FileCounts], judgements: Mapping[str, BeirSet], passages: list[InputFile], config: MineConfig
) -> str:
    """Of everything that decides the negatives; in ingested_files it tells one mining of a file from another."""
    contents = sorted({file.sha256 for file in files} | {beir.digest for beir in judgements.values()})
    return fingerprint_of([config.model_dump(mode="json"), contents, sorted(file.sha256 for file in passages)])


def _spill_mined(
    intake: Intake, pairs: list[Pair], passages: Passages, known: Known, negatives: Mapping[str, list[Candidate]]
) -> None:
    for position, number, row in (pair for pair in pairs if pair.row.is_positive):
        query_id = text_id(row.query)
        found: list[tuple[str, str, int | None]] = [
            (passage, "given", None) for passage in known.given.get(query_id, ())
        ]
        found += [(passages.texts[passage], miner, rank) for passage, miner, rank in negatives[query_id]]
        if not found:
            found_in = {"query": row.query[:1000]} | ({"external_id": row.external_id} if row.external_id else {})
            intake.quarantine(position, number, ["no_negative_found"], json.dumps(found_in, ensure_ascii=False))
        intake.add(position, number, row, found)
    for position in range(len(intake.files)):
        intake.refuse_if_mostly_bad(position)
