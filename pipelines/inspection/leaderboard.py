"""Every model on one common data set: one row a model, best first, beside its dev value, its teacher and BM25.

Figures of the data set are reports: who looks for the best of several models takes the one with the highest dev value
(of the same `dev_set`), which `chosen_on_dev` finds, and reads here what it is worth.
"""

import polars as pl
from rich.cells import cell_len

from pipelines.checkpoints.models import all_models
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.render import aligned_table
from pipelines.stage.terminal import cut
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import EvaluationResult

METRIC = "nDCG@10"
COLUMNS = 100  # that the table takes
NARROWEST_NAME = 12
BAR = "▏▎▍▌▋▊▉█"
NARROWEST_BAR, WIDEST_BAR = 14, 40  # columns
HEADER = ["model", METRIC, "smallest", "dev", "teacher", "BM25", "layers", "seconds", "data", "vectors"]
FOOTNOTE = (
    f"smallest: {METRIC} at the fewest dimensions. teacher, BM25: the difference of {METRIC} to theirs.",
    "data, vectors: versions of curated_triplets and teacher_vectors. To choose among models take dev.",
)


def leaderboard(tables: Tables, on: str | None = None) -> pl.DataFrame:
    """One row per model, best first by nDCG@10 at its full size on one data set; those not evaluated there come last.

    Args:
        on: a data set as `evaluations` names it, with or without its digest; None is the one that most models were
            evaluated on, of equals the last by name.
    Returns:
        model_id, data_set, queries, dimension, nDCG@10, smallest_dimension, smallest_nDCG@10, dev_nDCG@10, dev_set,
        teacher, minus_teacher, minus_bm25, num_layers, steps, seconds, curated_version, vectors_version,
        config_fingerprint. Null: not known.
    Raises:
        UserError: there is no model, or nothing was evaluated on that data set.
    """
    known, evaluations = all_models(tables), tables.latest("evaluations")
    if known.is_empty():
        raise UserError(f"there is no model under {tables.uri}; run `python -m jobs distill` first")
    means = _means(evaluations)
    data_set = _data_set(means.filter(pl.col("model_id").is_in(known["model_id"].implode())), on)
    of_set = means.filter(pl.col("data_set") == pl.lit(data_set, pl.String))
    rows = known.select(
        "model_id",
        pl.lit(data_set, pl.String).alias("data_set"),
        pl.col("dev_ndcg_at_10").alias(f"dev_{METRIC}"),
        "dev_set",
        pl.col("recipe").str.json_path_match("$.num_layers").cast(pl.Int64).alias("num_layers"),
        *("steps", "seconds", "curated_version", "vectors_version", "config_fingerprint"),
    )
    rows = rows.join(_at_both_ends(of_set), on="model_id", how="left").join(
        _teachers(evaluations, data_set), on="model_id", how="left"
    )
    teachers = _at_both_ends(of_set).select(teacher="model_id", teacher_mean=METRIC)
    bm25 = of_set.filter(pl.col("model_id") == "bm25")["mean"]
    rows = rows.join(teachers, on="teacher", how="left").with_columns(
        minus_teacher=pl.col(METRIC) - pl.col("teacher_mean"),
        minus_bm25=pl.col(METRIC) - pl.lit(bm25[0] if len(bm25) else None, pl.Float64),
    )
    rows = rows.with_columns(data_set=pl.when(pl.col(METRIC).is_not_null()).then("data_set"))
    columns = ["model_id", "data_set", "queries", "dimension", METRIC, "smallest_dimension", f"smallest_{METRIC}"]
    columns += [f"dev_{METRIC}", "dev_set", "teacher", "minus_teacher", "minus_bm25", "num_layers", "steps", "seconds"]
    columns += ["curated_version", "vectors_version", "config_fingerprint"]
    return rows.select(columns).sort(METRIC, "model_id", descending=[True, False], nulls_last=True)


def chosen_on_dev(board: pl.DataFrame) -> pl.DataFrame:
    """model_id, dev_nDCG@10, dev_set: the best model of each dev set on which several were measured."""
    measured = board.filter(pl.col("dev_set").is_not_null()).sort(f"dev_{METRIC}", "model_id", descending=[True, False])
    several = measured.filter(pl.len().over("dev_set") > 1)
    return several.unique("dev_set", keep="first", maintain_order=True).select("model_id", f"dev_{METRIC}", "dev_set")


def board_lines(board: pl.DataFrame, width: int | None = None, *, with_bars: bool = False) -> list[str]:
    """The leaderboard as text on COLUMNS columns, or a terminal's: long names are cut, and so is what does not fit.

    `with_bars`: a bar for each model, of all from 0 to 1, where the terminal has room for one.
    """
    rows = [
        [row["model_id"], _share(row[METRIC]), _share(row[f"smallest_{METRIC}"]), _share(row[f"dev_{METRIC}"]),
         _difference(row["minus_teacher"]), _difference(row["minus_bm25"]), _number(row["num_layers"]),
         f"{row['seconds']:,.0f}", _version(row["curated_version"]), _version(row["vectors_version"])]
        for row in board.iter_rows(named=True)
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    room = max(NARROWEST_NAME, (width or COLUMNS) - sum(widths[1:]) - 2 * len(HEADER))
    named = [[cut(name, room), *values] for name, *values in rows]
    table = aligned_table(HEADER, named).split("\n")
    columns = min(WIDEST_BAR, (width or 0) - max(map(cell_len, table)) - 3)
    if with_bars and columns >= NARROWEST_BAR:
        bars = [_bar(value, columns) for value in board[METRIC]]
        table = aligned_table(
            [*HEADER, f"0{METRIC:^{columns - 2}}1"], [[*row, bar] for row, bar in zip(named, bars, strict=True)]
        ).split("\n")
    lines = [*table, *FOOTNOTE]
    return [cut(line, width) for line in lines] if width else lines


def _bar(share: float | None, columns: int) -> str:
    """A share of so many columns, to an eighth of one."""
    whole, eighths = divmod(round(8 * columns * (share or 0.0)), 8)
    return BAR[-1] * whole + (BAR[eighths - 1] if eighths else "")


def _means(evaluations: TableVersion | None) -> pl.DataFrame:
    """model_id (a system's), data_set, dimension, mean nDCG@10, queries."""
    schema = {"model_id": pl.String, "data_set": pl.String, "dimension": pl.Int64, "mean": pl.Float64}
    if evaluations is None:
        return pl.DataFrame(schema=schema | {"queries": pl.UInt32})
    values = evaluations.scan().filter(pl.col("metric") == METRIC)
    means = values.group_by("model_id", "data_set", "dimension").agg(mean=pl.col("value").mean(), queries=pl.len())
    return means.collect(engine="streaming")


def _data_set(of_models: pl.DataFrame, on: str | None) -> str | None:
    """The data set that is asked for, or that most models were evaluated on; None where there is none."""
    counts = of_models.group_by("data_set").agg(models=pl.col("model_id").n_unique())
    known: list[str] = counts.sort("models", "data_set", descending=True)["data_set"].to_list()
    if on is None:
        return known[0] if known else None
    found = [name for name in known if on in (name, name.partition("@")[0] if name.startswith("beir/") else name)]
    if len(found) != 1:
        told = f"several data sets are called {on}: {', '.join(found)}" if found else f"no model was evaluated on {on}"
        raise UserError(f"{told}; expected one of {first_of(known) or 'none: `python -m jobs evaluate` makes them'}")
    return found[0]


def _at_both_ends(of_set: pl.DataFrame) -> pl.DataFrame:
    """Of each system its figure at its largest dimension, and at its smallest."""
    by_dimension = of_set.sort("dimension", descending=True)
    return by_dimension.group_by("model_id", maintain_order=True).agg(
        pl.col("queries").first(),
        pl.col("dimension").first(),
        pl.col("mean").first().alias(METRIC),
        pl.col("dimension").last().alias("smallest_dimension"),
        pl.col("mean").last().alias(f"smallest_{METRIC}"),
    )


def _teachers(evaluations: TableVersion | None, data_set: str | None) -> pl.DataFrame:
    """model_id, teacher: with whom each model was last compared on the data set, as the evaluation's commit says."""
    found: dict[str, str] = {}
    for _, result in evaluations.results(EvaluationResult) if evaluations else ():
        of_role = {role: system for system, role in result.systems.items()}
        if data_set in result.sizes and {"student", "teacher"} <= of_role.keys():
            found.setdefault(of_role["student"], of_role["teacher"])
    return pl.DataFrame(list(found.items()), {"model_id": pl.String, "teacher": pl.String}, orient="row")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _difference(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _version(version: str | None) -> str:
    return "" if version is None else version.partition("@")[2]
