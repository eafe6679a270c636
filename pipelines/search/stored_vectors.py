"""Vectors of texts by their ids, as teacher_vectors has them. Imports no model and no torch."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.storage import TableVersion


def read_vectors(
    vectors: TableVersion, teacher: str, kind: Literal["query", "passage"], text_ids: Sequence[str], dimension: int
) -> NDArray[np.float32]:
    """The stored vectors of these text ids, in their order; NaN where there is none. Shape (ids, dimension)."""
    ids = pl.Series("text_id", text_ids, dtype=pl.String)
    of_kind = _of_teacher(vectors, teacher, ids).filter(pl.col("kind") == pl.lit(kind))
    wanted = pl.DataFrame(ids).with_row_index("row")
    found = wanted.join(of_kind.select("text_id", "vector").collect(engine="streaming"), on="text_id")
    read = np.full((len(ids), dimension), np.nan, np.float32)
    if len(found):
        read[found["row"].to_numpy()] = found["vector"].list.to_array(dimension).to_numpy()
    return read


def stored_width(vectors: TableVersion, teacher: str, likely: Sequence[str]) -> int | None:
    """Of a teacher's vectors; None where it has none. These few texts are looked at first: most of a file is not."""
    for ids in (pl.Series("text_id", likely, dtype=pl.String), None):
        lengths = _of_teacher(vectors, teacher, ids).head(1).select(pl.col("vector").list.len())
        if len(found := lengths.collect(engine="streaming")):
            return int(found.item())
    return None


def _of_teacher(vectors: TableVersion, teacher: str, ids: pl.Series | None) -> pl.LazyFrame:
    """Its rows: all, or those of some texts."""
    rows = vectors.scan().filter(pl.col("teacher") == pl.lit(teacher))
    if ids is None:
        return rows
    near = pl.col("text_id").is_between(pl.lit(ids.min()), pl.lit(ids.max()))  # files tell their least and greatest
    return rows.filter(near & pl.col("text_id").is_in(ids.implode()))
