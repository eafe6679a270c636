"""What every table has beside its columns: a name, a key, an Arrow schema and the columns with file statistics.

A table is a Pandera model (polars backend); its `Config` carries `name`, `unique` (the key) and, under
`metadata["statistics"]`, the columns whose minimum and maximum stand in each file's Delta statistics,
so that readers can skip files.
"""

from typing import Annotated

import pandera.polars as pa
import polars as pl
import pyarrow

ID_PATTERN = r"^[0-9a-f]{32}$"
"""Ids: the first 32 hex digits of sha256 over the UTF-8 text; equal text has one id in every corpus."""

ListOfStrings = Annotated[pl.List, pl.String()]
Vector = Annotated[pl.List, pl.Float32()]

_ARROW_TYPES: dict[pl.DataType, pyarrow.DataType] = {
    pl.String(): pyarrow.string(),
    pl.Boolean(): pyarrow.bool_(),
    pl.Int32(): pyarrow.int32(),
    pl.Int64(): pyarrow.int64(),
    pl.Float32(): pyarrow.float32(),
    pl.Float64(): pyarrow.float64(),
    pl.List(pl.String()): pyarrow.list_(pyarrow.string()),
    pl.List(pl.Float32()): pyarrow.list_(pyarrow.float32()),
}


class Table(pa.DataFrameModel):
    """Base of the table models; it declares no column."""

    class Config:
        strict = True
        ordered = True

    @classmethod
    def table_name(cls) -> str:
        """The table's name, as in `curated_triplets@7`."""
        return str(cls.to_schema().name)

    @classmethod
    def key_columns(cls) -> list[str]:
        """The columns that identify a row."""
        return list(cls.to_schema().unique or [])

    @classmethod
    def nullable_columns(cls) -> set[str]:
        """The columns that may be null, as those are that an older version lacks."""
        return {name for name, column in cls.to_schema().columns.items() if column.nullable}

    @classmethod
    def statistics_columns(cls) -> list[str]:
        """The columns whose minimum, maximum and null count are written per file."""
        metadata = cls.__config__.metadata if cls.__config__ else None
        return list((metadata or {}).get("statistics", []))

    @classmethod
    def polars_schema(cls) -> dict[str, pl.DataType]:
        """Column name -> polars data type, in the table's order."""
        return {name: column.dtype.type for name, column in cls.to_schema().columns.items()}

    @classmethod
    def arrow_schema(cls) -> pyarrow.Schema:
        """The Arrow schema of the table's files, derived from the Pandera model."""
        types, nullable = cls.polars_schema(), cls.nullable_columns()
        return pyarrow.schema([(name, _ARROW_TYPES[dtype], name in nullable) for name, dtype in types.items()])
