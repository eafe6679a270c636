"""What `evaluations` has of certain systems on certain sets: nDCG@10, one row per system, set, dimension and query."""

from collections.abc import Collection

import polars as pl

from pipelines.evaluation.metrics import METRICS
from pipelines.storage import Tables
from schemas import Evaluations

COLUMNS = ["model_id", "data_set", "dimension", "query_id", "value"]


def recorded(tables: Tables, model_ids: Collection[str], data_sets: Collection[str]) -> pl.DataFrame:
    """The newest values; without rows where there are none."""
    evaluations = tables.newest("evaluations")
    if evaluations is None:
        return pl.DataFrame(schema=Evaluations.polars_schema()).select(COLUMNS)
    is_wanted = pl.col("model_id").is_in(list(model_ids)) & pl.col("data_set").is_in(list(data_sets))
    return evaluations.scan().filter(is_wanted & (pl.col("metric") == METRICS[0])).select(COLUMNS).collect()


def missing(tables: Tables, model_ids: Collection[str], data_sets: Collection[str]) -> set[str]:
    """The systems that were not measured on all of the sets."""
    found = recorded(tables, model_ids, data_sets).select("model_id", "data_set").unique()
    measured = dict(found.group_by("model_id").len().iter_rows())
    return {one for one in model_ids if measured.get(one, 0) < len(set(data_sets))}
