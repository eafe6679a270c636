"""List every model with its data, recipe and figures."""

from jobs.options import JsonOption, TablesOption, open_tables, print_frame
from pipelines.stage.errors import UserError


def main(tables: TablesOption = None, as_json: JsonOption = False) -> None:
    import polars as pl

    root = open_tables(tables)
    models, evaluations = root.latest("models"), root.latest("evaluations")
    if models is None:
        raise UserError(f"there is no model under {root.uri}; run `python -m jobs distill` first")
    known = models.scan().select(
        "model_id", "curated_version", "vectors_version", "config_fingerprint", "steps", "seconds"
    )
    if evaluations is not None:
        figures = (
            evaluations.scan()
            .filter(pl.col("metric") == "nDCG@10")
            .group_by("model_id", "data_set", "dimension")
            .agg(pl.col("value").mean().alias("nDCG@10"))
        )
        known = known.join(figures, on="model_id", how="left")
        known = known.sort("model_id", "data_set", "dimension", descending=[False, False, True])
    print_frame(known.collect(), as_json)
