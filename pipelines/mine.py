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
from collections.abc import Mapping

from pydantic import Field

from pipelines.intake.accounts import FileCounts, Intake, describe_file
from pipelines.intake.append_triplets import append_new, record_missing_files
from pipelines.intake.beir import BeirSet, is_beir_folder
from pipelines.intake.formats import find_files
from pipelines.intake.layouts import RowChecks, check_named_columns
from pipelines.mining.draw import Candidate, DrawConfig, mine_negatives
from pipelines.mining.inputs import Pair, Passages, all_passages, is_mined, known_positives, read_judgements, read_pairs
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
    for file in files:
        file.columns = told

    def spill_rows(intake: Intake) -> None:
        pairs = list(read_pairs(intake, judgements, columns, own_source=source is None))
        drawn_from = all_passages(pairs, judgements.values(), passages, config, config.max_passages)
        known = known_positives(pairs, judgements.values())
        negatives = dict(mine_negatives(known, drawn_from, config, _sources(intake, pairs)))
        _spill_mined(intake, pairs, drawn_from, negatives)

    return append_new(tables, "mine", config, files, spill_rows, triplets_per_row=config.negatives_per_query)


def _sources(intake: Intake, pairs: list[Pair]) -> dict[str, set[str]]:
    """Query id -> the sources whose rows ask it."""
    sources: dict[str, set[str]] = {}
    for position, _, row in pairs:
        sources.setdefault(text_id(row.query), set()).add(row.source or intake.files[position].source)
    return sources


def _fingerprint(
    files: list[FileCounts], judgements: Mapping[str, BeirSet], passages: str | None, config: MineConfig
) -> str:
    """Of everything that decides the negatives; in ingested_files it tells one mining of a file from another."""
    passage_files = [describe_file(path, None, None).sha256 for path in find_files([passages] if passages else [])]
    contents = sorted({file.sha256 for file in files} | {beir.digest for beir in judgements.values()})
    return fingerprint_of([config.model_dump(mode="json"), contents, sorted(passage_files)])


def _spill_mined(
    intake: Intake, pairs: list[Pair], passages: Passages, negatives: Mapping[str, list[Candidate]]
) -> None:
    for position, number, row in pairs:
        found = negatives[text_id(row.query)]
        if not found:
            intake.quarantine(position, number, ["no_negative_found"], row.query[:1000])
        intake.add(position, number, row, [(passages.texts[passage], miner, rank) for passage, miner, rank in found])
    for position in range(len(intake.files)):
        intake.refuse_if_mostly_bad(position)
