"""Ingest files of triplets into the triplets table.

    files --open_file, tell_layout--> checked rows --Spill--> triplets@v + quarantined_rows + ingested_files

Every input row ends as triplets, as duplicates or as one quarantined row with its reasons, and the counts add up.
A file that was ingested before adds nothing; neither does a triplet, whatever file it comes in. Memory does not grow
with the input (pipelines/intake/spill.py); the temporary folder (TMPDIR) needs about the input's size uncompressed.
"""

import tempfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from pipelines.intake.accounts import Intake, describe_file
from pipelines.intake.append_triplets import append_triplets, existing_triplets, not_yet_ingested, record_missing_files
from pipelines.intake.formats import find_files, open_file
from pipelines.intake.layouts import RowChecks, check_named_columns, tell_layout
from pipelines.intake.spill import Spill, SpilledTriplet
from pipelines.storage import Lineage, Tables, TableVersion


class IngestConfig(RowChecks):
    """What an input row must be to become triplets. Stored with every version it produced."""


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
        intake = Intake(files, config, spill)
        for position in range(len(files)):
            _spill_file(intake, position, columns, own_source=source is None)
        return append_triplets(tables, spill, files, Lineage("ingest", [], config))


def _spill_file(intake: Intake, position: int, columns: Mapping[str, str], *, own_source: bool) -> None:
    """Each positive of each good row of a file, with each of the row's negatives."""
    file = intake.files[position]
    opened = open_file(file.path)
    layout = tell_layout(file.path, opened.columns, columns, own_source=own_source)
    for number, row in intake.good_rows(position, opened, layout):
        origin = (row.source or file.source, row.external_id, position, number)
        for positive, negative in product(row.positives, row.negatives):
            intake.spill.add(SpilledTriplet(row.query, positive, negative, "given", None, *origin))
