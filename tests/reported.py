"""Small roots for reports: sources of which one is rotten, two teachers, two curations, a model and its figures.

    reported(folder)  -->  Reported(tables, curated, before)

`Page` reads a report as a program does: its figures by name, its tags, its text.
"""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.curation.rules import CrossEncoderThresholds
from pipelines.report.gather import gather
from pipelines.report.page import render
from pipelines.report.subject import Subject
from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, TableVersion, new_version
from pipelines.storage.commits import EvaluationResult, TrainingResult
from schemas import Evaluations, Models
from tests.rows import frame_of
from tests.scored_versions import JUDGE, scored_rows, write_scored, write_triplets

OTHER = "other@00000000000f"
MODEL = f"small@{'ab' * 6}"
CONFIG = CurateConfig(test_share=0.4, dev_share=0.1, max_drop_share=1)
STRICT = CONFIG.model_copy(update={"cross_encoder": CrossEncoderThresholds(min_teacher_margin=4)})
SCORES = {  # source -> (positive, negative) of its rows, by their number
    "clean": lambda number: (4.0 + number % 5, -3.0 - number % 3),
    "mixed": lambda number: (3.0, 2.8) if number % 4 == 0 else (3.0 + number % 2, -0.5),
    "rotten": lambda number: (-4.0, 4.0) if number % 3 else (-1.0, -0.5),
}
DIMENSIONS = {4: 0.1, 2: 0.0}  # of the student -> what it gains on a value


class Reported(NamedTuple):
    tables: Tables
    curated: TableVersion  # by CONFIG
    before: TableVersion  # by STRICT, of the same scores

    def page(self, *, against: bool = False, models: tuple[str, ...] = ()) -> "Page":
        return Page(render(gather(Subject.find(self.tables, self.curated, self.before if against else None, models))))


def reported(
    folder: Path, rows: int = 40, text: Callable[[str], str] = lambda plain: plain, *, with_model: bool = True
) -> Reported:
    """A root with that many rows a source; `text` turns every text and source name into another."""
    tables = Tables.at(str(folder / "tables"))
    scored = pl.concat(_rows(source, rows, text) for source in SCORES)
    triplets = write_triplets(tables, scored)
    judged = scored.with_columns(teacher=pl.lit(OTHER), positive_score=pl.col("positive_score") / 3 + 0.5)
    write_scored(triplets, judged)
    version = write_scored(triplets, scored)
    before, curated = (curate.run(version, config, teacher=JUDGE).version for config in (STRICT, CONFIG))
    assert curated is not None
    assert before is not None
    if with_model:
        write_model(tables, curated)
        evaluate(tables, curated)
    return Reported(tables, curated, before)


def _rows(source: str, number: int, text: Callable[[str], str]) -> pl.DataFrame:
    rows = [
        (text(f"{source} query {at}"), text(f"{source} good {at}"), positive, text(f"{source} bad {at}"), negative)
        for at in range(number)
        for positive, negative in [SCORES[source](at)]
    ]
    scored = scored_rows(rows, source=text(source), positive_tokens_cut=3 if source == "mixed" else 0)
    error = pl.when(pl.col("positive_score").is_null()).then(pl.lit("too long"))
    return scored.with_columns(scoring_error=error)


def write_model(tables: Tables, curated: TableVersion, model: str = MODEL, steps: int = 6) -> None:
    """A row of the models table, and the metrics of a training in two stages."""
    name = model.partition("@")[0]
    told = {"model_id": model, "name": name, "curated_version": str(curated), "recipe": "{}", "steps": steps}
    with new_version(tables, Models, Lineage("distill", [curated], Config())) as models:
        models.write(frame_of(Models, told))
        models.result = TrainingResult(model=model)
    folder = Path(tables.path("models", name))
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"stage": "warm" if step < steps / 2 else "<b>hot</b>", "step": step, "loss": 4.0 - step / steps,
         "info_nce": 3.0, "vectors": 1.0 - step / steps, "learning_rate": 1e-3, "grad_norm": 2.0,
         "padding_share": 0.1, "queries": 4, "triplets": 8, "seconds": float(step)}
        for step in range(steps)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def evaluate(tables: Tables, curated: TableVersion, model: str = MODEL) -> None:
    """Figures of the model, its teacher and BM25 for the queries of the test split; the first of them is lost.

    The teacher ranks each query's positive first, the model the next query's, and then its own.
    """
    test = curated.scan().filter(pl.col("split") == "test").select("query_id").unique()
    triplets = tables.newest("triplets")
    assert triplets is not None, "`reported` writes them"
    ingested = triplets.scan().unique("query_id")
    queries, positives = test.join(ingested, on="query_id").select("query_id", "positive_id").sort("query_id").collect()
    ranked = {JUDGE: [[one] for one in positives]}
    ranked[model] = [[positives[(at + 1) % len(positives)], one] for at, one in enumerate(positives)]
    rows = [
        {"model_id": system, "query_id": query, "dimension": dimension, "metric": metric,
         "ranked_ids": ranked[system][at] if system in ranked and metric == "nDCG@10" else None,
         "value": 0.05 if system == model and at == 0 else value(at, gain)}
        for system, dimensions in ((model, DIMENSIONS), (JUDGE, {0: 0.05}), ("bm25", {0: -0.1}))
        for dimension, gain in dimensions.items()
        for at, query in enumerate(queries)
        for metric in ("nDCG@10", "RR@10", "R@100")
    ]  # fmt: skip
    data_set = f"{curated}/test"
    with new_version(tables, Evaluations, Lineage("evaluate", [curated], Config())) as evaluations:
        evaluations.write(frame_of(Evaluations, *rows, data_set=data_set))
        roles = {model: "student", JUDGE: "teacher", "bm25": "bm25"}
        evaluations.result = EvaluationResult(systems=roles, sizes={data_set: {"queries": len(queries), "passages": 9}})


def value(at: int, gain: float) -> float:
    """Of the at-th query by a system that gains so much."""
    return round(0.3 + gain + 0.5 * (at % 3) / 3, 3)


class Page(HTMLParser):
    """A page by its parts: `figures[name, key]`, `tags` (name and attributes, in order), `text`."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.text = source, ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: dict[tuple[str, str], float] = {}
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        found = dict(attrs)
        if name := found.get("data-figure"):
            key, value = (name, found.get("data-key") or ""), float(found["value"] or "nan")
            assert self.figures.setdefault(key, value) == value, (
                f"{key} stands there as {self.figures[key]} and {value}"
            )

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]
