"""A study's values as figures, answers and Markdown tables: arms with intervals over queries and seeds.

    values  --figures-->  a mean per arm, size and set   --compare-->  differences and verdicts   --render-->  Markdown

Of an arm's vectors, `size` is "full", or the dimension they are cut to; `kept_as` is float32, int8 or binary. `on` is
"in domain" (the test split), the name of a public set, or "public", the mean of these.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from pipelines.evaluation.seeds import Matrix, by_set, estimate, paired_difference
from pipelines.stage.render import markdown_table

FULL, IN_DOMAIN, PUBLIC = "full", "in domain", "public"
KEYS = ["budget", "kept_as", "size", "arm"]
FOOTNOTE = (
    "nDCG@10: mean over seeds and queries ± standard deviation of the seeds' means [95 % interval over both: two-way "
    "bootstrap, stretched by Student's t]. Differences are paired by seed and query; `not told apart`: their interval "
    "holds 0. Intervals are not corrected for their number. Binary: the nearest by Hamming distance, twice as many as "
    "are wanted, in the order of the float32 query with their signs."
)

Values = Mapping[str, Matrix]  # set -> (seeds, queries)
Group = tuple[str, str, str]  # budget, kept_as, size


class Question(NamedTuple):
    arm: str
    against: str
    question: str


def with_sizes(values: pl.DataFrame, dimensions: Collection[int]) -> pl.DataFrame:
    """Adds `size` to rows with `arm` and `dimension`; those that are cut to another dimension are left out."""
    is_full = pl.col("dimension") == pl.col("dimension").max().over("arm")
    size = pl.when(is_full).then(pl.lit(FULL)).otherwise(pl.col("dimension").cast(pl.String))
    return values.filter(is_full | pl.col("dimension").is_in(list(dimensions))).with_columns(size=size)


def figures(values: pl.DataFrame, *, num_resamples: int, seed: int = 0) -> pl.DataFrame:
    """budget, kept_as, size, arm, on, seeds, mean, spread, low, high.

    Args:
        values: budget, kept_as, size, arm, data_set, seed, query_id, value; the test split's set is called IN_DOMAIN.
    """
    rows = []
    for (budget, kept_as, size), arms in _groups(values).items():
        for arm, sets in arms.items():
            for on, matrices in _scopes(sets):
                found = estimate(matrices, num_resamples=num_resamples, seed=seed)
                found = found._replace(low=max(0.0, found.low), high=min(1.0, found.high))  # as the metric has it
                told = {"budget": budget, "kept_as": kept_as, "size": size, "arm": arm, "on": on}
                rows.append(told | {"seeds": len(matrices[0]), **found._asdict()})
    return pl.DataFrame(rows, infer_schema_length=None)


def compare(values: pl.DataFrame, questions: Sequence[Question], *, num_resamples: int, seed: int = 0) -> pl.DataFrame:
    """budget, kept_as, size, on (in domain, public), question, arm, against, mean (of the paired differences), spread,
    low, high, verdict; one row for each question that both arms answer there. Arguments as of `figures`.
    """
    rows = []
    for (budget, kept_as, size), arms in _groups(values).items():
        for one in questions:
            if one.arm not in arms or one.against not in arms:
                continue
            left, right = arms[one.arm], arms[one.against]
            differences = dict(zip(left, paired_difference(left, right), strict=True))
            for on, matrices in _scopes(differences):
                if on in (IN_DOMAIN, PUBLIC):
                    found = estimate(matrices, num_resamples=num_resamples, seed=seed)
                    told = {"budget": budget, "kept_as": kept_as, "size": size, "on": on, **one._asdict()}
                    rows.append(told | {**found._asdict(), "verdict": found.verdict})
    return pl.DataFrame(rows, infer_schema_length=None)


def render(
    title: str, budgets: Mapping[str, str], costs: pl.DataFrame, figures: pl.DataFrame, answers: pl.DataFrame
) -> str:
    """Markdown: for each budget what arms cost, their figures at each size, and the answers.

    Args:
        budgets: name -> how it is told.
        costs: budget, arm, seeds, steps, seconds, triplets_per_s.
        figures, answers: of `figures` and `compare`.
    """
    blocks = [f"# Study {title}"]
    for budget, told in budgets.items():
        blocks += [f"## {told}", _costs_table(costs.filter(budget=budget))]
        of_budget = figures.filter(budget=budget)
        for (kept_as, size), rows in of_budget.group_by("kept_as", "size", maintain_order=True):
            blocks += [f"### {_vectors(str(kept_as), str(size))}", _figures_table(rows)]
        if len(asked := answers.filter(budget=budget) if len(answers) else answers):
            blocks += ["### Answers", _answers_table(asked)]
    return "\n\n".join([*blocks, FOOTNOTE])


def _groups(values: pl.DataFrame) -> dict[Group, dict[str, Values]]:
    """(budget, kept_as, size), largest first -> arm -> its values by set; all else in the order in which it comes."""
    groups: dict[Group, dict[str, Values]] = {}
    for (budget, kept_as, size, arm), rows in values.group_by(KEYS, maintain_order=True):
        groups.setdefault((str(budget), str(kept_as), str(size)), {})[str(arm)] = by_set(rows)
    order = {kept_as: number for number, kept_as in enumerate(dict.fromkeys(kept_as for _, kept_as, _ in groups))}
    return dict(sorted(groups.items(), key=lambda one: (one[0][0], order[one[0][1]], _from_the_largest(one[0][2]))))


def _from_the_largest(size: str) -> float:
    return -math.inf if size == FULL else -float(size)


def _scopes(sets: Values) -> Iterator[tuple[str, list[Matrix]]]:
    """What a mean is over: each set, the test split first, and the public sets together."""
    public = {name: matrix for name, matrix in sets.items() if name != IN_DOMAIN}
    if IN_DOMAIN in sets:
        yield IN_DOMAIN, [sets[IN_DOMAIN]]
    yield from ((name, [matrix]) for name, matrix in public.items())
    if public:
        yield PUBLIC, list(public.values())


def _costs_table(costs: pl.DataFrame) -> str:
    header = ["arm", "seeds", "steps", "seconds", "triplets/s"]
    rows = costs.select("arm", "seeds", "steps", "seconds", "triplets_per_s").iter_rows()
    return markdown_table(
        header, [[arm, seeds, f"{n:,.0f}", f"{s:,.1f}", f"{rate:,.1f}"] for arm, seeds, n, s, rate in rows]
    )


def _figures_table(rows: pl.DataFrame) -> str:
    names = list(dict.fromkeys(rows["on"]))
    cells: dict[str, dict[str, str]] = {}
    for row in rows.iter_rows(named=True):
        cells.setdefault(row["arm"], {})[row["on"]] = _told(row)
    header = ["arm", *(f"mean of the {PUBLIC} sets" if name == PUBLIC else name for name in names)]
    return markdown_table(header, [[arm, *(of.get(name, "") for name in names)] for arm, of in cells.items()])


def _answers_table(answers: pl.DataFrame) -> str:
    keys = ["question", "arm", "against", "kept_as", "size"]
    lines = []
    for (question, arm, against, kept_as, size), rows in answers.group_by(keys, maintain_order=True):
        found = {row["on"]: _answer(row) for row in rows.iter_rows(named=True)}
        at = _vectors(str(kept_as), str(size))
        lines.append([question, f"{arm} - {against}", at, found.get(IN_DOMAIN, ""), found.get(PUBLIC, "")])
    return markdown_table(["question", "difference", "at", IN_DOMAIN, f"mean of the {PUBLIC} sets"], lines)


def _told(row: Mapping[str, Any]) -> str:
    """A line of figures: .714 ± .003 [.672, .759]."""
    spread = "" if row["spread"] is None else f" ± {row['spread']:.3f}"
    return f"{row['mean']:.3f}{spread} [{row['low']:.3f}, {row['high']:.3f}]"


def _answer(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] {row['verdict']}"


def _vectors(kept_as: str, size: str) -> str:
    cut = "full size" if size == FULL else f"{size} dimensions"
    return cut if kept_as == "float32" else f"{cut}, {kept_as}"
