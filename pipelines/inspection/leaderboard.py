"""Every model on one common data set: one row a model, best first, beside its dev value, its teacher and BM25.

Figures of the data set are reports: who looks for the best of several models takes the one with the highest dev value
(of the same `dev_set`), which `chosen_on_dev` finds, and reads here what it is worth.
"""

from collections.abc import Mapping

import polars as pl
from rich.cells import cell_len

from pipelines.checkpoints.models import all_models
from pipelines.stage.errors import UserError, first_of
from pipelines.stage.printable import on_one_line
from pipelines.stage.render import columns_taken, first_that_fit, noted_table
from pipelines.stage.terminal import cut
from pipelines.storage import Tables, TableVersion
from pipelines.storage.commits import EvaluationResult

METRIC = "nDCG@10"
NARROWEST_NAME, WIDEST_NAME = 24, 40
BAR = "▏▎▍▌▋▊▉█"
NARROWEST_BAR, WIDEST_BAR = 3, 20  # columns
BESIDE = ("layers", "seconds", "data", "vectors")
MEASURED = {METRIC: METRIC, "smallest": f"smallest_{METRIC}", "dev": f"dev_{METRIC}"}
FOOTNOTES = {  # by the column that each is about
    "smallest": f"smallest: {METRIC} at the fewest dimensions.",
    "vs teacher": f"vs teacher: {METRIC} less the teacher's.",
    "vs BM25": f"vs BM25: {METRIC} less BM25's.",
    "data": "data: version of curated_triplets.",
    "vectors": "vectors: version of teacher_vectors.",
    "dev": "To choose among models take dev.",
}


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
    """The leaderboard as text: what is known of any model, a column each.

    On a terminal names are cut and the last columns left out until it fits, which is said; a log has them all.
    `with_bars`: beside each measured value, from 0 to 1; they come before the columns of BESIDE.
    """
    models = [on_one_line(name) for name in board["model_id"]]
    known = {name: column for name, column in _cells(board).items() if any(column)}
    of_bars = (NARROWEST_BAR + 1) * sum(name in MEASURED for name in known) if with_bars else 0
    least = 2 + min(NARROWEST_NAME, max(map(cell_len, models)))
    cells, left = _fitting(known, of_bars, width - least) if width else (known, WIDEST_NAME)
    models = [cut(name, max(len("model"), min(least - 2 + left, WIDEST_NAME))) for name in models]
    measured = [name for name in MEASURED if name in cells]
    free = (width or 0) - columns_taken({"model": models, **cells})
    columns = min(WIDEST_BAR, free // max(1, len(measured)) - 1)
    if with_bars and columns >= NARROWEST_BAR:
        for name in measured:
            bars = [_bar(value, columns) for value in board[MEASURED[name]]]
            cells[name] = [f"{value:<{len(name)}} {bar}" for value, bar in zip(cells[name], bars, strict=True)]
    notes = [note for name, note in FOOTNOTES.items() if name in cells]
    return noted_table({"model": models, **cells}, notes, [name for name in known if name not in cells], width)


def _fitting(known: Mapping[str, list[str]], of_bars: int, room: int) -> tuple[dict[str, list[str]], int]:
    """The first columns that a room takes, one at least, and what is left of it.

    What bars take is kept free where they have room once the columns of BESIDE are gone.
    """
    measured = {name: column for name, column in known.items() if name not in BESIDE}
    room -= of_bars if of_bars + columns_taken(measured) <= room else 0
    cells = first_that_fit(known, room)
    return cells, room - columns_taken(cells)


def _cells(board: pl.DataFrame) -> dict[str, list[str]]:
    """Columns of text by their header, the most important ones first."""
    rows = [
        [*(_share(row[name]) for name in MEASURED.values()), _difference(row["minus_teacher"]),
         _difference(row["minus_bm25"]), _number(row["num_layers"]), f"{row['seconds']:,.0f}",
         _version(row["curated_version"]), _version(row["vectors_version"])]
        for row in board.iter_rows(named=True)
    ]  # fmt: skip
    header = [*MEASURED, "vs teacher", "vs BM25", *BESIDE]
    return {name: list(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}


def _bar(share: float | None, columns: int) -> str:
    """A share of so many columns, to an eighth of one."""
    whole, eighths = divmod(round(8 * columns * (share or 0.0)), 8)
    return (BAR[-1] * whole + (BAR[eighths - 1] if eighths else "")).ljust(columns)


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
