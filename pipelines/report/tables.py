"""The page's tables: figures and texts in rows, each number under the name by which it is found again (README.md)."""

from typing import Any

import polars as pl

from pipelines.evaluation.comparison import VERSUS
from pipelines.report.cells import Cell, Code, Command, Figures, Made, Number, Table, Text
from pipelines.report.gather import Report
from pipelines.report.judgement import Outcomes
from pipelines.report.lengths import LengthFigures
from pipelines.report.lineage import Lineage
from pipelines.report.movement import Movement
from pipelines.report.quality import METRIC, OTHER_MEANS, Measured
from pipelines.report.reasons import meaning
from pipelines.report.scores import QUANTITIES, Agreement, ScoreFigures
from pipelines.stage.printable import counted

MOST_ROWS = 40


def sources(outcomes: Outcomes) -> Table:
    """One row a source, the worst first."""
    rows: list[list[Cell]] = [
        [
            Text(row["source"]),
            Number(row["rows"], "source_rows", row["source"]),
            Number(row["kept"], "source_kept_rows", row["source"]),
            Number(row["kept"] / row["rows"], "source_kept_share", row["source"], "share"),
            Number(row["corrected"], "source_corrected_rows", row["source"]),
            Number(row["dropped"], "source_dropped_rows", row["source"]),
            Code(row["main_reason"] or ""),
        ]
        for row in outcomes.sources.iter_rows(named=True)
    ]
    columns = ["source", "rows", "kept", "kept %", "corrected", "dropped", "mostly"]
    return Table.of(
        "Sources, the worst first: of whose rows the fewest stayed as they came",
        columns,
        rows,
        MOST_ROWS,
        "sources, with more kept",
    )


def reasons(outcomes: Outcomes) -> Table:
    """One row a reason, the commonest first."""
    total = outcomes.rows()
    rows: list[list[Cell]] = [
        [
            Code(row["reason"]),
            row["outcome"],
            Number(row["rows"], "reason_rows", row["reason"]),
            Number(row["rows"] / total, form="share"),
            Number(row["sources"]),
            meaning(row["reason"]),
        ]
        for row in outcomes.reasons.iter_rows(named=True)
    ]
    columns = ["reason", "outcome", "rows", "% of all", "sources", "what it means"]
    return Table.of("Why rows were corrected or dropped, the commonest first", columns, rows, MOST_ROWS, "reasons")


def splits(outcomes: Outcomes) -> Table:
    """What is left to train and to measure on."""
    rows: list[list[Cell]] = [
        [row["split"], Number(row["rows"], "split_rows", row["split"])] for row in outcomes.splits.iter_rows(named=True)
    ]
    return Table("What is left, by split", ["split", "rows"], rows)


def teachers(scores: ScoreFigures) -> Table:
    """One row a teacher: how it scores, what it contradicts, what it could not read."""
    rows: list[list[Cell]] = [
        [
            Text(row["teacher"]),
            Number(row["rows"], "teacher_rows", row["teacher"]),
            Number(row["rows"] - row["scored"], "teacher_error_rows", row["teacher"]),
            Number(row["positive_mean"], "positive_score_mean", row["teacher"], "decimal"),
            Number(row["negative_mean"], "negative_score_mean", row["teacher"], "decimal"),
            Number(row["margin_mean"], "margin_mean", row["teacher"], "decimal"),
            Number(row["contradicted"], "contradicted_rows", row["teacher"]),
            Number(row["contradicted"] / row["scored"] if row["scored"] else None, form="share"),
        ]
        for row in scores.teachers.iter_rows(named=True)
    ]
    columns = [
        "teacher",
        "triplets",
        "not scored",
        "positives",
        "negatives",
        "margin",
        "contradicted",
        "contradicted %",
    ]
    caption = "Teachers: means of the raw scores, to be compared within one teacher alone"
    return Table.of(caption, columns, rows, MOST_ROWS, "teachers")


def scores_by_source(scores: ScoreFigures) -> Table:
    """One row a teacher and source: what its scores are like there, where the teacher contradicts most first."""
    share = pl.col("contradicted") / pl.col("scored")
    ordered = scores.sources.sort("teacher", share, "source", descending=[False, True, False], nulls_last=True)
    rows: list[list[Cell]] = [
        [
            Text(row["source"]),
            Text(row["teacher"]),
            *(_mean_and_spread(row, name) for name in QUANTITIES),
            Number(row["contradicted"] / row["scored"] if row["scored"] else None, form="share"),
        ]
        for row in ordered.iter_rows(named=True)
    ]
    columns = ["source", "teacher", "positives", "negatives", "margin", "contradicted"]
    caption = "Scores by teacher and source: mean ± standard deviation"
    return Table.of(caption, columns, rows, MOST_ROWS, "of a source and teacher")


def _mean_and_spread(row: dict[str, Any], name: str) -> Figures:
    return Figures(f"{row[f'{name}_mean']:.2f} ± {row[f'{name}_std']:.2f}" if row["scored"] else "")


def agreement(told: Agreement) -> Table:
    """One row a source: where the two teachers agree least comes first."""
    rows: list[list[Cell]] = [
        [
            Text(row["source"]),
            Number(row["triplets"]),
            Number(row["same_sign"], form="share"),
            Number(row["correlation"], form="score"),
        ]
        for row in told.by_source.iter_rows(named=True)
    ]
    columns = ["source", "triplets", "same passage first", "rank correlation"]
    return Table.of("Agreement by source, the least first", columns, rows, MOST_ROWS, "sources, with more agreement")


def rules(told: Movement) -> Table:
    """What the two curations were told and went by, where it is not the same."""
    rows: list[list[Cell]] = [
        [Code(rule), *("not set" if value is None else Text(value) for value in values)]
        for rule, *values in told.rules.iter_rows()
    ]
    return Table.of("Rules that differ", ["rule", "before", "now"], rows, MOST_ROWS, "rules")


def moved(told: Movement) -> Table:
    """From where to where, the largest stream first."""
    flows = told.flows.filter(pl.col("before") != pl.col("after"))
    rows: list[list[Cell]] = [
        [Code(before), Code(after), Number(count, "flow_rows", f"{before} -> {after}")]
        for before, after, count in flows.iter_rows()
    ]
    return Table.of("What moved", ["outcome before", "outcome now", "rows"], rows, MOST_ROWS, "smaller streams")


def moved_by_source(told: Movement) -> Table:
    """Which sources it concerns."""
    some = told.by_source.filter(pl.col("moved") > 0)
    rows: list[list[Cell]] = [
        [Text(source), Number(count), Number(count / rows, form="share")] for source, count, rows in some.iter_rows()
    ]
    return Table.of("What moved, by source", ["source", "rows moved", "% of it"], rows, MOST_ROWS, "sources")


def cut(told: LengthFigures) -> Table:
    """What the teacher did not read, by source."""
    rows: list[list[Cell]] = [
        [
            Text(row["source"]),
            Number(row["rows"]),
            Number(row["rows_cut"], "cut_rows", row["source"]),
            Number(row["rows_cut"] / row["rows"], form="share"),
            Number(row["positives_cut"]),
            Number(row["negatives_cut"]),
            Number(row["tokens_cut"], "tokens_cut", row["source"]),
        ]
        for row in told.cut.iter_rows(named=True)
    ]
    columns = ["source", "rows", "rows cut", "cut %", "positives cut", "negatives cut", "tokens cut"]
    return Table.of("What the teacher did not read, the most first", columns, rows, MOST_ROWS, "sources")


def measured(one: Measured) -> Table:
    """As `evaluate` prints it: one row a system and dimension."""
    others = [other for other in VERSUS if one.summary[f"minus_{other}"].null_count() < len(one.summary)]
    rows: list[list[Cell]] = []
    for row in one.summary.iter_rows(named=True):
        key = f"{one.data_set} / {row['model_id']} / {row['dimension']}"
        rows.append(
            [
                row["system"],
                Number(row["dimension"] or None),
                Number(row[METRIC], "ndcg_at_10", key, "score"),
                interval(row),
                Number(row["RR@10"], "mrr_at_10", key, "score"),
                Number(row["R@100"], "recall_at_100", key, "score"),
                *(_difference(row, other) for other in others),
            ]
        )
    columns = ["system", "dimensions", METRIC, "95 % interval", *OTHER_MEANS, *(VERSUS[other] for other in others)]
    queries = counted(one.summary["queries"][0], "query", "queries")
    return Table(f"{one.model_id} on {one.data_set}: {queries}", columns, rows)


def interval(row: dict[str, Any]) -> Figures:
    """The 95 % interval of nDCG@10."""
    return Figures(f"{row['low']:.3f} to {row['high']:.3f}")


def _difference(row: dict[str, Any], other: str) -> Figures:
    difference, p_value = row[f"minus_{other}"], row[f"p_{other}"]
    if difference is None or p_value is None:
        return Figures("")
    return Figures(f"{difference:+.3f} ({p_told(p_value)})")


def p_told(p_value: float) -> str:
    """`p = 0.012`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def models(report: Report) -> Table:
    """What each model is made of, and what it is worth on the first data set of each."""
    best = {one.model_id: one for one in reversed(report.measured)}
    rows: list[list[Cell]] = []
    for row in report.subject.models:
        one, size = best.get(row["model_id"]), report.sizes[row["model_id"]]
        rows.append(
            [
                Made(row["model_id"]),
                Made(row["curated_version"]),
                Number(size.layers),
                Number(size.width),
                Number(size.weights_bytes, "weights_bytes", row["model_id"], "size"),
                Number(row["steps"]),
                Number(row["dev_ndcg_at_10"], form="score"),
                Number(one.best[METRIC] if one else None, form="score"),
                interval(one.best) if one else "not evaluated",
            ]
        )
    columns = ["model", "data", "layers", "width", "weights", "steps", "dev", METRIC, "95 % interval"]
    return Table("Models: what they are made of, and nDCG@10 at their largest dimension", columns, rows)


def lineage(told: Lineage) -> Table:
    """One row a file, version or model, with the command that prints where it comes from."""
    rows: list[list[Cell]] = [
        [
            Made(node.id) if node.command else Text(node.label),
            node.kind,
            Text(node.said),
            Command(node.command, node.id) if node.command else "",
        ]
        for node in told.nodes
    ]
    least = "" if told.is_whole else "at least "
    is_cut = told.left_out or not told.is_whole
    note = f"And {least}{told.left_out:,} older files and versions: `history` has all." if is_cut else ""
    return Table("Everything behind this page, inputs first", ["name", "what", "made by", "printed by"], rows, note)
