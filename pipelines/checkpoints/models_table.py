"""Finding a model in the models table: its rows by name, and the one row that describes given weights."""

from typing import Any

import polars as pl

from pipelines.stage.errors import UserError
from pipelines.storage import Tables
from schemas import Models


def rows_of_model(tables: Tables, model: str) -> pl.DataFrame:
    """The rows of a model by its NAME or NAME@12hex, at least one. Raises UserError with the names there are."""
    models = tables.latest("models")
    known = models.scan().collect() if models else pl.DataFrame(schema=Models.polars_schema())
    rows = known.filter((pl.col("name") == model) | (pl.col("model_id") == model))
    if rows.is_empty():
        names = ", ".join(known["name"].unique().sort()) or "none"
        raise UserError(f"there is no model {model!r} under {tables.uri}; found: {names}. `distill` makes one")
    return rows


def row_of_weights(rows: pl.DataFrame, weights_sha256: str) -> dict[str, Any]:
    """The newest of a model's rows that describes exactly these weights. Raises UserError when none does."""
    described = rows.filter(pl.col("weights_sha256") == weights_sha256).to_dicts()
    if not described:
        raise UserError(
            f"the weights that lie under {rows['name'][0]} have sha256 {weights_sha256[:12]}..., which is not what the "
            f"models table has: they were trained over or changed. Train it again, or name another model"
        )
    return described[-1]
