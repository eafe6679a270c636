"""What a model is worth: nDCG@10 by dimension beside its teacher, its untrained self and BM25.

    evaluations  --quality-->  one row per model, data set, system and dimension, by `evaluation.comparison`

Means, intervals and p-values come from the function by which `evaluate` prints them, with the settings of the
evaluation's own commit, so the page has its figures to the last digit.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import polars as pl
from pyarrow import fs

from pipelines.checkpoints.run_folder import MODEL, RunFolder
from pipelines.evaluation.comparison import COLUMNS, VERSUS, summarise
from pipelines.evaluation.metrics import METRICS, mean_interval
from pipelines.report.subject import Row
from pipelines.storage import Tables
from pipelines.storage.commits import EvaluationResult

METRIC, *OTHER_METRICS = METRICS
OTHER_MEANS = COLUMNS[1:]  # what the means of these are called
CHEAP = 128  # dimensions: the size whose price is told
DEFAULTS = {"num_permutations": 10_000, "num_resamples": 2_000, "seed": 0}  # of an evaluation that does not say


class Price(NamedTuple):
    """What a cut vector loses, over the queries of one data set."""

    dimension: int
    full: int
    value: float  # nDCG@10 at `dimension`
    full_value: float
    low: float  # 95 % interval of the difference, value - full_value
    high: float

    @property
    def difference(self) -> float:
        return self.value - self.full_value


class Measured(NamedTuple):
    """One model on one data set."""

    model_id: str
    data_set: str
    summary: pl.DataFrame  # system, model_id, dimension, queries, the metrics, low, high, minus_*, p_*
    values: pl.DataFrame  # of evaluations
    roles: dict[str, str]  # model_id -> student, untrained, teacher, bm25, ...
    left_out: tuple[str, ...]  # systems that were measured on other queries
    not_measured: dict[str, str]  # role -> why the newest evaluation could not measure it
    price: Price | None  # None where there is one dimension alone

    @property
    def best(self) -> Row:
        """The student at its largest dimension."""
        return self.summary.filter(pl.col("system") == "student").row(0, named=True)

    def student(self, dimension: int) -> Row:
        """The student at one of its dimensions."""
        return self.summary.filter(system="student", dimension=dimension).row(0, named=True)

    @property
    def lacking(self) -> dict[str, str]:
        """Of what a student is compared with, what has no figures here: role -> why, where an evaluation said so."""
        there = {*self.summary["system"], *(self.roles[one] for one in self.left_out)}
        return {role: self.not_measured.get(role, "") for role in VERSUS if role not in there}

    @property
    def is_curated(self) -> bool:
        """Whether the queries are a curation's own, not a BEIR folder's."""
        return self.data_set.startswith("curated_triplets@")


def quality(tables: Tables, models: Iterable[str], teacher: str) -> list[Measured]:
    """Every model on every data set that it was evaluated on; the models in order, the sets by name.

    Args:
        models: model ids.
        teacher: whom a model is compared with, where no evaluation says so.
    """
    evaluations = tables.newest("evaluations")
    if evaluations is None:
        return []
    told = [(version.commit.config, result) for version, result in evaluations.results(EvaluationResult)]
    measured = []
    for model in models:
        roles = _roles(model, told, teacher)
        values = evaluations.scan().filter(pl.col("model_id").is_in(list(roles))).collect(engine="streaming")
        own = values.filter(pl.col("model_id") == model)
        for data_set in own["data_set"].unique().sort():
            of_set = values.filter(pl.col("data_set") == data_set)
            config, result = _newest(model, data_set, told)
            measured.append(_measured(model, data_set, of_set, roles, config, result.not_measured))
    return measured


def _roles(model: str, told: Iterable[tuple[Row, EvaluationResult]], teacher: str) -> dict[str, str]:
    """model_id -> role of all that a model is compared with: as the newest evaluation has them, else by their names."""
    of_teacher = teacher
    for _, result in told:
        if result.systems.get(model) == "student" and "teacher" in result.systems.values():
            of_teacher = next(system for system, role in result.systems.items() if role == "teacher")
            break
    named = {f"{kind}:{model}": kind for kind in ("int8", "binary", "untrained")}
    return {model: "student", **named, of_teacher: "teacher", "bm25": "bm25"}


def _newest(model: str, data_set: str, told: Iterable[tuple[Row, EvaluationResult]]) -> tuple[Row, EvaluationResult]:
    """Config and result of the newest evaluation of the model on the set."""
    found = (one for one in told if model in one[1].systems and data_set in one[1].sizes)
    return next(found, ({}, EvaluationResult()))


def _measured(
    model: str,
    data_set: str,
    values: pl.DataFrame,
    roles: dict[str, str],
    config: Row,
    not_measured: dict[str, str],
) -> Measured:
    """With intervals and tests drawn as the evaluation's config says."""
    settings = {name: config.get(name, default) for name, default in DEFAULTS.items()}
    queries = values.filter(pl.col("model_id") == model)["query_id"].unique()
    of_queries = values.filter(pl.col("metric") == METRIC, pl.col("query_id").is_in(queries.implode()))
    alike = of_queries.group_by("model_id", "dimension").len().filter(pl.col("len") == len(queries))
    left_out = set(values["model_id"]) - set(alike["model_id"])
    whole = values.filter(pl.col("query_id").is_in(queries.implode())).join(
        alike, on=["model_id", "dimension"], how="semi"
    )
    summary = summarise(_with_all_metrics(whole), roles, **settings)
    price = _price(whole.filter(pl.col("model_id") == model, pl.col("metric") == METRIC), settings)
    return Measured(model, data_set, summary, whole, roles, tuple(sorted(left_out)), not_measured, price)


def _with_all_metrics(values: pl.DataFrame) -> pl.DataFrame:
    """The values, and null for a metric that an evaluation did not have."""
    keys = ["model_id", "data_set", "query_id", "dimension"]
    every = values.select(keys).unique().join(pl.DataFrame({"metric": METRICS}), how="cross")
    return every.join(values, on=[*keys, "metric"], how="left").select(values.columns)


def _price(own: pl.DataFrame, settings: dict[str, int]) -> Price | None:
    """Of the dimension nearest below or at CHEAP, or the smallest, against the largest."""
    dimensions = own["dimension"].unique().sort().to_list()
    if len(dimensions) < 2:
        return None
    cheap, full = max([one for one in dimensions[:-1] if one <= CHEAP], default=dimensions[0]), dimensions[-1]
    columns = [own.filter(pl.col("dimension") == one).sort("query_id")["value"].to_numpy() for one in (cheap, full)]
    drawn = {"num_resamples": settings["num_resamples"], "seed": settings["seed"]}
    interval = mean_interval(columns[0] - columns[1], **drawn)
    return Price(cheap, full, float(columns[0].mean()), float(columns[1].mean()), interval.low, interval.high)


class ModelSize(NamedTuple):
    """What a model is made of."""

    layers: int | None
    width: int | None
    weights_bytes: int | None  # of its safetensors; None where they are not there


def model_size(tables: Tables, row: Row) -> ModelSize:
    """From the model's folder: its config.json and the sizes of its files."""
    folder = RunFolder(tables, row["name"])
    config: dict[str, Any] = folder.read(f"{MODEL}/config.json") or {}
    files = folder.filesystem.get_file_info(fs.FileSelector(f"{folder.path}/{MODEL}", allow_not_found=True))
    weights = [info.size for info in files if info.base_name.endswith(".safetensors")]
    width = config.get("hidden_size")
    return ModelSize(config.get("num_hidden_layers"), width, sum(weights) if weights else None)
