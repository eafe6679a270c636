"""Ingest files of triplets into the triplets table.

    files --formats, layouts--> checked rows --Spill--> triplets@v + quarantined_rows + ingested_files

Every input row ends as triplets, as duplicates or as one quarantined row with its reasons, and the counts add up.
A file that was ingested before adds nothing; neither does a triplet, whatever file it comes in. Memory does not grow
with the input (pipelines/intake/spill.py); the temporary folder (TMPDIR) needs about the input's size uncompressed.
"""

import tempfile
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

from pipelines.intake.accounts import FileCounts, Intake, describe_file
from pipelines.intake.append_triplets import (
    append_triplets,
    existing_triplets,
    not_yet_ingested,
    record_missing_files,
)
from pipelines.intake.formats import find_files
from pipelines.intake.layouts import CheckedRow, RowChecks, check_named_columns
from pipelines.intake.spill import Spill, SpilledTriplet
from pipelines.storage import Lineage, Tables, TableVersion


class IngestConfig(RowChecks):
    """What an input row must be to become triplets. Stored with every version it produced."""


def triplets_of(row: CheckedRow, source: str, file: int, source_row: int) -> Iterator[SpilledTriplet]:
    """Each positive of a row with each of its negatives."""
    for positive, negative in product(row.positives, row.negatives):
        yield SpilledTriplet(row.query, positive, negative, row.source or source, row.external_id, file, source_row)


def run(
    tables: Tables,
    inputs: list[str],
    config: IngestConfig,
    *,
    columns: Mapping[str, str],
    source: str | None = None,
    licence: str | None = None,
) -> TableVersion:
    """Append what is new in the inputs. Returns the newest triplets version, the old one if nothing was new."""
    check_named_columns(columns)
    record_missing_files(tables, config)
    files = not_yet_ingested(tables, [describe_file(path, source, licence, columns) for path in find_files(inputs)])
    if not files:
        return existing_triplets(tables)
    with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        spill = Spill(Path(folder), sum(Path(file.path).stat().st_size for file in files))
        intake = Intake(config, spill, columns, own_source=source is None)
        for file in files:
            _spill_file(intake, file)
        return append_triplets(tables, spill, intake.files, Lineage("ingest", [], config))


def _spill_file(intake: Intake, file: FileCounts) -> None:
    position = intake.add_file(file)
    for number, row in intake.rows(position):
        for triplet in triplets_of(row, file.source, position, number):
            intake.spill.add(triplet)
