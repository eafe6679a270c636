"""The rows of the models table: of which model, on which weights, and the versions that a model was trained on."""

import json
from typing import Any

import polars as pl

from pipelines.stage.errors import UserError
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import TrainingResult
from schemas import Models


def all_models(tables: Tables) -> pl.DataFrame:
    """Every row of the newest models version, none where no model was trained yet."""
    models = tables.latest("models")
    return models.scan().collect() if models else pl.DataFrame(schema=Models.polars_schema())


def rows_of_model(tables: Tables, model: str) -> pl.DataFrame:
    """The rows of a model by its NAME or NAME@12hex, at least one. Raises UserError with the names there are."""
    known = all_models(tables)
    rows = known.filter((pl.col("name") == model) | (pl.col("model_id") == model))
    if rows.is_empty():
        names = ", ".join(known["name"].unique().sort()) or "none"
        raise UserError(
            f"there is no model {model!r} under {tables.uri}; found: {names}; `python -m jobs distill` makes one"
        )
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


def trained_from(tables: Tables, row: dict[str, Any]) -> list[TableVersion]:
    """The versions that a row of the models table was trained on: of curated_triplets and, if any, teacher_vectors.

    The row's own curated version comes first, then those of other training stages, which its recipe names.

    Raises:
        UserError: a table was made anew since.
    """
    stages = json.loads(row["recipe"]).get("stages", ())
    numbers = [stage["curated_version"] for stage in stages if "curated_version" in stage]
    named = [row["curated_version"], *(f"curated_triplets@{number}" for number in numbers), row["vectors_version"]]
    named = [name for name in dict.fromkeys(named) if name]
    models = tables.latest("models")
    for version, result in models.results(TrainingResult) if models else ():
        if result.model == row["model_id"] and version.commit.inputs:
            return [tables.recorded(one) for one in version.commit.inputs if one.version in named]
    return [tables.parse(name) for name in named]


def refuse_if_lost(model: str, version: TableVersion, consequence: str) -> None:
    """Raise UserError where the rows that a model was trained on cannot be read any more."""
    if version.unusable:
        raise UserError(
            f"{model} was trained on {version}, which {version.unusable}: {consequence}. Bring "
            f"{version.tables.path(version.name)} back from a copy, or train on what can be read: python -m jobs "
            "distill --name ANOTHER"
        )
