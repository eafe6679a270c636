"""Evaluate a student beside its untrained self, its teacher and BM25.

    models + curated_triplets@v/test + BEIR folders  --run-->  evaluations: one value per query, dimension and metric

The student's vectors are cut to every Matryoshka dimension it was trained for, made unit length and searched exactly.
A teacher that is a bi-encoder is searched alike; a cross-encoder reads BM25's best passages again.
"""

import time
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Literal, NamedTuple

import polars as pl
from pydantic import Field

from pipelines.curation.held_out import EvaluationSet, why_not_held_out
from pipelines.evaluation.comparison import QUANTISED, render, summarise
from pipelines.evaluation.evaluation_sets import beir_set, count_overlap, held_out_test_set
from pipelines.evaluation.metrics import DEPTH, per_query
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell
from pipelines.storage import Lineage, Tables, TableVersion, replace_rows
from pipelines.storage.commits import EvaluationResult
from schemas import Evaluations

if TYPE_CHECKING:
    from pipelines.evaluation.systems import NotMeasured, Student, System

FEW_QUERIES = 50
"""Below it, TREC's usual number of topics, a warning is printed (Voorhees and Buckley, SIGIR 2002)."""


class EvaluateConfig(Config):
    """What is compared, and on how much. Stored with every version of the evaluations."""

    max_test_queries: int | None = Field(1_000, ge=1)
    """Most queries of the test split; None is all. BEIR folders are always evaluated whole."""

    max_corpus_passages: int | None = Field(100_000, ge=1)
    """Most passages in the test split's corpus, not counting relevant ones beyond it; None is all."""

    compare_with: tuple[Literal["untrained", "teacher", "bm25"], ...] = ("untrained", "teacher", "bm25")
    """Systems beside the student: layers picked but not trained, the curation's teacher, BM25."""

    quantised: tuple[Literal["int8", "binary"], ...] = ()
    """The student once more with its passage vectors kept as int8 or as single bits (see search/quantised.py)."""

    rerank_depth: int = Field(DEPTH, ge=1, le=DEPTH)
    """How many of BM25's best passages a cross-encoder teacher reads again."""

    batch_size: int = Field(32, ge=1)
    """Texts that the student encodes at a time."""

    count_overlap: bool = True
    """Whether to count the evaluation texts that stand in the training text: reads the whole curated version."""

    num_permutations: int = Field(10_000, ge=1)
    """Random exchanges of the paired randomisation test."""

    num_resamples: int = Field(2_000, ge=1)
    """Bootstrap samples behind a 95 % interval."""

    seed: int = 0
    """Of the test and the intervals."""


class Measured(NamedTuple):
    role: str
    model_id: str
    rows: pl.DataFrame  # of evaluations


class Evaluation(NamedTuple):
    version: TableVersion  # evaluations
    summary: pl.DataFrame  # one row per data set, system and dimension: see pipelines/evaluation/comparison.py
    overlap: pl.DataFrame  # data_set, kind, texts, exact, near; no rows when it was not counted
    not_measured: dict[str, str]  # system -> why

    def text(self) -> str:
        """The summary as a readable table."""
        return render(self.summary, self.overlap, self.not_measured)

    def __repr__(self) -> str:
        of_student = self.summary.filter(pl.col("system") == "student").sort("dimension", descending=True)
        best = of_student.unique("data_set", keep="first", maintain_order=True)
        told = [f"{row['data_set']} nDCG@10 {row['nDCG@10']:.3f} at {row['dimension']}" for row in best.to_dicts()]
        return f"<evaluation {self.version}: {', '.join(told)}>"

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        return f"<div>{escape(repr(self))}</div><pre>{escape(self.text())}</pre>"


def run(
    tables: Tables, model: str, config: EvaluateConfig, *, on: TableVersion | None = None, beir: Sequence[str] = ()
) -> Evaluation:
    """Evaluate a model; its rows and those of what it is compared with replace older ones for the same data sets.

    Each system's rows are a version of their own, and the last one's record tells of all.

    Args:
        model: a name or model_id of the models table.
        on: the curated version whose test split is asked; None is the one that the model was trained on.
        beir: BEIR folders.
    Raises:
        UserError: no such model, or nothing to evaluate on.
    """
    from pipelines.evaluation.systems import find_student  # torch: too slow to import for a config alone

    tables.check_writable("evaluations")
    student = find_student(tables, model)
    sets = find_sets(on or student.trained_on, beir, config)
    _say_where_few(sets)
    trained_on = [student.trained_on, *student.others]
    overlap = count_overlap(sets if _can_count_overlap(trained_on, config) else [], *trained_on)
    sizes = {one.name: {"queries": len(one.queries), "passages": len(one.corpus)} for one in sets}
    models = tables.latest("models")
    assert models is not None, "find_student has read it"
    inputs = [models, *trained_on, *([on] if on and on not in trained_on else [])]
    measured: list[pl.DataFrame] = []
    roles: dict[str, str] = {}
    not_measured: dict[str, str] = {}
    for system in _measure_systems(student, sets, config):
        if isinstance(system, Measured):
            roles[system.model_id] = system.role
            measured.append(system.rows)
        else:
            not_measured[system.role] = system.reason
        told = {"systems": roles, "not_measured": not_measured}
        result = EvaluationResult(**told, sizes=sizes, overlap=tuple(overlap.to_dicts()))
        lineage = Lineage("evaluate", inputs, config, result)
        # as they come: a later system may fail
        version = replace_rows(tables, Evaluations, measured[-1], on=["model_id", "data_set"], lineage=lineage)
    chances = config.model_dump(include={"num_permutations", "num_resamples", "seed"})
    return Evaluation(version, summarise(pl.concat(measured), roles, **chances), overlap, not_measured)


def find_sets(curated: TableVersion, beir: Sequence[str], config: EvaluateConfig) -> list[EvaluationSet]:
    """The test split of a curated version, if it can be asked, and BEIR folders, at least one set.

    BEIR folders are read first: one that cannot be read is told before a large table is read. Raises UserError.
    """
    sets = list({one.name: one for one in map(beir_set, beir)}.values())
    if why := why_not_held_out(curated):
        if not sets:
            raise UserError(
                f"{why}: the test split of {curated} cannot be asked; name another with --on, or give --beir DIR"
            )
        tell(f"{why}: evaluating on BEIR alone")
        return sets
    held_out = held_out_test_set(curated, config.max_test_queries, config.max_corpus_passages)
    if held_out is not None:
        return [held_out, *sets]
    if not sets:
        raise UserError(f"{curated} has no query in its test split; raise curate.test_share, or give --beir DIR")
    tell(f"{curated} has no query in its test split; evaluating on BEIR alone")
    return sets


def _say_where_few(sets: list[EvaluationSet]) -> None:
    for one in sets:
        if len(one.queries) < FEW_QUERIES:
            tell(f"{one.name} has {len(one.queries)} queries: too few to tell close systems apart; see its intervals")


def _can_count_overlap(trained_on: Sequence[TableVersion], config: EvaluateConfig) -> bool:
    """Whether the training text is wanted for it, and there."""
    gone = [version for version in trained_on if config.count_overlap and version.unusable]
    for version in gone:
        tell(f"evaluate: the overlap with training is not counted: {version} {version.unusable}")
    return config.count_overlap and not gone


def _measure_systems(
    student: "Student", sets: list[EvaluationSet], config: EvaluateConfig
) -> "Iterator[Measured | NotMeasured]":
    """One system after the other, the student first; one that fails on the way is not measured."""
    from pipelines.evaluation.systems import NotMeasured, systems

    wanted = config.model_dump(include={"quantised", "compare_with", "rerank_depth", "batch_size"})
    for system in systems(student, sets, **wanted):
        found = system if isinstance(system, NotMeasured) else _measured_on(sets, system)
        del system  # and with it its model, before the next one is loaded
        if isinstance(found, NotMeasured):
            tell(f"evaluate: {found.role} is not measured: {found.reason}")
        yield found


def _measured_on(sets: list[EvaluationSet], system: "System") -> "Measured | NotMeasured":
    from pipelines.evaluation.systems import NotMeasured

    try:
        return Measured(system.role, system.model_id, pl.concat(_measure(system, one) for one in sets))
    except UserError as error:
        if system.role in ("student", *QUANTISED):
            raise
        return NotMeasured(system.role, str(error))


def _measure(system: "System", evaluation_set: EvaluationSet) -> pl.DataFrame:
    """The rows of `evaluations` of one system on one set."""
    started = time.monotonic()
    measured = [
        per_query(evaluation_set.qrels, ranking).with_columns(dimension=pl.lit(dimension, pl.Int64))
        for dimension, ranking in system.rank(evaluation_set).items()
    ]
    tell(f"evaluate: {system.role} on {evaluation_set.name}: {time.monotonic() - started:.1f} s")
    rows = pl.concat(measured).with_columns(model_id=pl.lit(system.model_id), data_set=pl.lit(evaluation_set.name))
    return rows.select(Evaluations.polars_schema().keys())
