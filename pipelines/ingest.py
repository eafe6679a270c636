"""Ingest files of triplets into the triplets table.

    files --find_files, Layouts--> checked rows --Spill--> triplets@v + quarantined_rows + ingested_files

Every input row ends as triplets, as duplicates or as one quarantined row with its reasons, and the counts add up.
A file that was ingested before adds nothing; neither does a triplet, whatever file it comes in. Memory does not grow
with the input (pipelines/intake/spill.py); the temporary folder (TMPDIR) needs about the input's size uncompressed.
"""

import shlex
from collections.abc import Mapping

from pipelines.intake.accounts import Intake, describe_file
from pipelines.intake.append_triplets import append_new, record_missing_files
from pipelines.intake.beir import is_beir_folder
from pipelines.intake.delimited import Quoting
from pipelines.intake.find_files import find_files
from pipelines.intake.layouts import Layouts, RowChecks, check_named_columns
from pipelines.intake.spill import Negative
from pipelines.stage.errors import UserError
from pipelines.storage import Tables, TableVersion


class IngestConfig(RowChecks):
    """What an input row must be to become triplets. Stored with every version it produced."""


def run(
    tables: Tables,
    inputs: list[str],
    config: IngestConfig,
    *,
    columns: Mapping[str, str],
    quoting: Quoting | None = None,
    source: str | None = None,
    licence: str | None = None,
    closed: str | None = None,
) -> TableVersion:
    """Append what is new in the inputs. Returns the newest triplets version, the old one if nothing was new."""
    check_named_columns(columns)
    for folder in filter(is_beir_folder, inputs):
        command = f"python -m jobs mine --input {shlex.quote(folder)}"
        raise UserError(f"{folder} is a BEIR folder, expected triplets: `{command}` finds negatives for it")
    record_missing_files(tables, config)
    told = {**columns, **config.told()}
    files = [describe_file(file, source, licence, told) for file in find_files(inputs, quoting)]

    def spill_rows(intake: Intake) -> list[TableVersion]:
        for position, file in enumerate(intake.files):
            opened = file.found.open()
            layouts = Layouts(file.path, opened.columns, columns, own_source=source is None)
            for number, row in intake.good_rows(position, opened, layouts):
                intake.add(position, number, row, list(map(Negative, row.negatives)))
        return []

    return append_new(tables, "ingest", config, files, spill_rows, closed=closed)
