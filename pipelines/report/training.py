"""How a model was trained: the lines of its metrics.jsonl, by term and stage, in a few hundred points.

    models/NAME/metrics.jsonl  --training_curves-->  step, stage, measure, value

Of a long training each point is the mean of neighbouring steps.
"""

import io
from typing import NamedTuple

import polars as pl

from pipelines.checkpoints.run_folder import METRICS, RunFolder
from pipelines.stage.errors import describe
from pipelines.storage import Tables

POINTS = 200
NO_TERMS = {
    "stage", "step", "epoch", "loss", "learning_rate", "grad_norm", "queries", "triplets", "texts", "tokens",
    "padding_share", "triplets_per_s", "queries_per_s", "texts_per_s", "seconds",
}  # fmt: skip
OTHERS = ("loss", "grad_norm", "padding_share", "dev_ndcg_at_10")


class Curves(NamedTuple):
    """Of one model."""

    name: str
    steps: int
    stages: tuple[str, ...]
    terms: tuple[str, ...]  # of the objective
    points: pl.DataFrame  # step, stage, measure (a term, or one of OTHERS), value

    def of(self, *measures: str) -> pl.DataFrame:
        """The points of some measures."""
        return self.points.filter(pl.col("measure").is_in(measures))


def training_curves(tables: Tables, name: str) -> Curves | str:
    """A model's curves, or why there are none."""
    folder = RunFolder(tables, name)
    path = f"{folder.path}/{METRICS}"
    try:
        with folder.filesystem.open_input_file(path) as file:
            lines = pl.read_ndjson(io.BytesIO(file.read()), infer_schema_length=None)
    except FileNotFoundError:
        return f"models/{name}/{METRICS} is not there any more"
    except OSError as error:
        return f"models/{name}/{METRICS} cannot be read ({describe(error)})"
    except pl.exceptions.PolarsError as error:
        return f"models/{name}/{METRICS} is no file of steps ({str(error).splitlines()[0][:120]})"
    if lines.is_empty() or not lines.schema.get("step", pl.Null()).is_integer():
        return f"models/{name}/{METRICS} has no step, or one that is no number"
    numbers = [name for name, dtype in lines.schema.items() if dtype.is_numeric()]
    terms = [name for name in numbers if name not in NO_TERMS and not name.startswith("dev_")]
    measures = [name for name in (*OTHERS, *terms) if name in numbers]
    stage = pl.col("stage") if "stage" in lines.columns else pl.lit("stage_1")
    width = max(1, -(-len(lines) // POINTS))
    long = lines.with_columns(stage=stage.cast(pl.String).fill_null("stage_1")).unpivot(
        measures, index=["step", "stage"], variable_name="measure", value_name="value"
    )
    points = (
        long.drop_nulls("value")
        .group_by("stage", "measure", bin=pl.col("step") // width)
        .agg(pl.col("step").min(), pl.col("value").cast(pl.Float64).mean())
        .sort("measure", "step")
    )
    stages = long["stage"].unique(maintain_order=True).to_list()
    return Curves(name, len(lines), tuple(stages), tuple(terms), points.select("step", "stage", "measure", "value"))
