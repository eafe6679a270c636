"""quarantined_rows: one row per input row that could not become a triplet. Key: source_file, source_sha256, source_row.

Written by pipelines/ingest.py and pipelines/mine.py, before the triplets of the same files. A content's last reading
decides: when it takes more rows (a raised limit, other columns), those it takes are not in this table any more.
"""

import pandera.polars as pa
import polars as pl

from schemas.table import ListOfStrings, Table

MAX_RAW_BYTES = 4096
MAX_NAMED_CHARS = 1_000


class QuarantinedRows(Table):
    source_file: str
    source_sha256: str = pa.Field(str_matches=r"^[0-9a-f]{64}$")
    source_row: int = pa.Field(ge=1)
    reasons: ListOfStrings
    raw: str = pa.Field(nullable=True)  # the row as found, at most 4 KB; null when ingest.keep_raw is off
    rank: pl.Int32 = pa.Field(nullable=True, ge=1)  # of a positive that is not near enough to its query: its rank
    named_source: str = pa.Field(nullable=True)  # that the row itself names, cut; null as raw, or where it names none

    class Config:
        name = "quarantined_rows"
        unique = ["source_file", "source_sha256", "source_row"]
        metadata = {"statistics": ["source_file"]}

    @pa.check("reasons")
    @classmethod
    def has_a_reason(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col(data.key).list.len() > 0)

    @pa.check("raw")
    @classmethod
    def raw_is_short(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col(data.key).str.len_bytes().fill_null(0) <= MAX_RAW_BYTES)
