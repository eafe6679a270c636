"""ingested_files: one row per input file, source and way of reading it. Key: sha256, source, columns.

Written by pipelines/ingest.py and pipelines/mine.py (append), after the triplets of the same files.
Accepted rows expand to `triplets` (new ones) + `duplicates`; `quarantined` rows could not become triplets.
"""

import pandera.polars as pa

from schemas.table import Table


class IngestedFiles(Table):
    path: str  # as it was given
    sha256: str = pa.Field(str_matches=r"^[0-9a-f]{64}$")
    rows: int = pa.Field(ge=0)  # input rows, blank lines not counted
    triplets: int = pa.Field(ge=0)
    duplicates: int = pa.Field(ge=0)
    quarantined: int = pa.Field(ge=0)
    source: str
    licence: str = pa.Field(nullable=True)  # SPDX, as given
    columns: str  # JSON of what was told: --columns, --quoting, another limit than the default; empty: nothing was

    class Config:
        name = "ingested_files"
        unique = ["sha256", "source", "columns"]
        metadata = {"statistics": ["sha256"]}
