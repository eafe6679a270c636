"""Per-query values of several systems to one table: means, intervals, differences and their p-values; and its text.

Systems are compared query by query at the same dimension, or, where the other has no such dimension, at its largest
(a teacher narrower than the student) or only one (BM25, a cross-encoder).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import polars as pl

from pipelines.evaluation.metrics import METRICS, Values, mean_interval, randomisation_p_value
from pipelines.stage.printable import counted
from pipelines.stage.render import aligned_table

ROLES = ("student", "untrained", "teacher", "bm25")  # in the order of the table; each is compared with those after it
QUANTISED = ("int8", "binary")  # the student with other vectors, below it
ORDER = (ROLES[0], *QUANTISED, *ROLES[1:])
COLUMNS = ("nDCG@10 [95 % interval]", "MRR@10", "R@100")
VERSUS = dict(zip(ROLES[1:], ("vs untrained", "vs teacher", "vs BM25"), strict=True))
FOOTNOTE = (
    "Differences are of nDCG@10, at the same dimension where both have it, with the p-value of a paired randomisation "
    "test. Dimension - : no vectors."
)

Row = dict[str, Any]


def summarise(
    values: pl.DataFrame, roles: Mapping[str, str], *, num_permutations: int, num_resamples: int, seed: int
) -> pl.DataFrame:
    """One row per data set, system and dimension.

    Args:
        values: rows of `evaluations`; every system has the same queries within a data set.
        roles: model_id -> student, int8, binary, untrained, teacher or bm25.
    Returns:
        data_set, system, model_id, dimension, queries, the means `nDCG@10`, `RR@10`, `R@100`, the interval `low` to
        `high` of nDCG@10, and, for each other system after this one in ROLES, `minus_SYSTEM` (difference of nDCG@10)
        and `p_SYSTEM`; null where there is nothing to compare with.
    """
    p_value = partial(randomisation_p_value, num_permutations=num_permutations, seed=seed)
    rows: list[Row] = []
    for (data_set,), of_set in values.sort("query_id").group_by("data_set", maintain_order=True):
        of_systems = _by_system(of_set, roles)
        ndcg = {system: its_values[METRICS[0]].to_numpy() for system, its_values in of_systems.items()}
        for (role, dimension), its_values in of_systems.items():
            interval = mean_interval(ndcg[role, dimension], num_resamples=num_resamples, seed=seed)
            row: Row = {"data_set": data_set, "system": role, "dimension": dimension, "queries": len(its_values)}
            row |= {"model_id": its_values["model_id"][0], "low": interval.low, "high": interval.high}
            row |= its_values.select(METRICS).mean().row(0, named=True)
            rows.append(row | _differences(ndcg, role, dimension, p_value))
    return pl.DataFrame(rows, schema=_schema())


def render(summary: pl.DataFrame, overlap: pl.DataFrame, not_measured: Mapping[str, str]) -> str:
    """The summary as plain text, one block per data set."""
    blocks = []
    for (data_set,), rows in summary.group_by("data_set", maintain_order=True):
        heading = f"{data_set}: {counted(rows['queries'][0], 'query', 'queries')}"
        of_set = overlap.filter(pl.col("data_set") == data_set).to_dicts()
        blocks.append("\n".join([heading, *map(_overlap_line, of_set), _table(rows.to_dicts())]))
    missing = [f"{system}: not measured: {reason}" for system, reason in not_measured.items()]
    return "\n\n".join([*blocks, "\n".join([*missing, FOOTNOTE])])


def _schema() -> dict[str, pl.DataType]:
    texts = dict.fromkeys(["data_set", "system", "model_id"], pl.String())
    counts = dict.fromkeys(["dimension", "queries"], pl.Int64())
    others = [name for other in ROLES[1:] for name in (f"minus_{other}", f"p_{other}")]
    return {**texts, **counts, **dict.fromkeys([*METRICS, "low", "high", *others], pl.Float64())}


def _by_system(values: pl.DataFrame, roles: Mapping[str, str]) -> dict[tuple[str, int], pl.DataFrame]:
    """(role, dimension) -> model_id and a column per metric, in the order of the query ids; ordered as the table is."""
    wide = values.pivot("metric", index=["model_id", "dimension", "query_id"], values="value", maintain_order=True)
    of_systems = {
        (roles[str(model_id)], int(str(dimension))): rows
        for (model_id, dimension), rows in wide.group_by("model_id", "dimension", maintain_order=True)
    }
    return dict(sorted(of_systems.items(), key=lambda one: (ORDER.index(one[0][0]), -one[0][1])))


def _differences(
    ndcg: Mapping[tuple[str, int], Values], role: str, dimension: int, p_value: Callable[[Values, Values], float]
) -> dict[str, float]:
    differences: dict[str, float] = {}
    own = ndcg[role, dimension]
    for other in (one for one in ORDER[ORDER.index(role) + 1 :] if one in ROLES):
        there = [its_dimension for its_role, its_dimension in ndcg if its_role == other]
        if there:
            baseline = ndcg[other, dimension if dimension in there else max(there)]
            differences |= {f"minus_{other}": float((own - baseline).mean()), f"p_{other}": p_value(own, baseline)}
    return differences


def _table(rows: list[Row]) -> str:
    lines, measured = [], [other for other in VERSUS if any(row["system"] == other for row in rows)]
    for row in rows:
        interval = f"{row['nDCG@10']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        others = [_difference(row[f"minus_{other}"], row[f"p_{other}"]) for other in measured]
        means = [f"{row['RR@10']:.3f}", f"{row['R@100']:.3f}"]
        lines.append([row["system"], str(row["dimension"] or "-"), interval, *means, *others])
    return aligned_table(["system", "dim", *COLUMNS, *(VERSUS[other] for other in measured)], lines)


def _difference(difference: float | None, p_value: float | None) -> str:
    if difference is None or p_value is None:
        return ""
    return f"{difference:+.3f} " + ("p<0.001" if p_value < 0.001 else f"p={p_value:.3f}")


def _overlap_line(row: Row) -> str:
    plural = {"query": "queries", "passage": "passages"}[row["kind"]]
    exact = f"{row['exact']:,} of {row['texts']:,} {plural} stand in the training text exactly"
    return f"  {exact}, {row['near']:,} but for case, punctuation and space"
