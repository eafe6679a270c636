"""The page's pictures: which figures become which chart, and the sentence beside each.

A sentence says in words and numbers what the picture shows; who does not see the picture loses nothing that counts.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from pipelines.report import charts, flow
from pipelines.report.charts import Line, Picture
from pipelines.report.gather import MULTIPLES, Report
from pipelines.report.hostile_text import plain
from pipelines.report.judgement import Outcomes
from pipelines.report.lengths import LengthFigures
from pipelines.report.lineage import Lineage
from pipelines.report.movement import Movement
from pipelines.report.quality import METRIC, Measured
from pipelines.report.queries import ByQuery
from pipelines.report.scores import GRID, Agreement, ScoreFigures
from pipelines.report.subject import Row, Subject
from pipelines.report.training import Curves
from pipelines.stage.printable import counted

MOST_BARS = 15
SIDES = {"positive": "positives", "negative": "negatives"}


def outcome_shares(sources: pl.DataFrame) -> Picture:
    """The worst sources, each with what became of its rows: `curation.outcomes.by_source`. The card has it as well."""
    worst = sources.head(MOST_BARS)
    long = worst.select("source", *(pl.col(name) / pl.col("rows") for name in charts.OF_OUTCOME)).unpivot(
        index="source", variable_name="outcome", value_name="share"
    )
    places = {name: place for place, name in enumerate(charts.OF_OUTCOME)}
    rows = long.select("outcome", "share", name="source", place=pl.col("outcome").replace_strict(places))
    first = worst.row(0, named=True)
    order = {name: place for place, name in enumerate(worst["source"])}
    kept = f"{first['kept'] / first['rows']:.1%} of {first['rows']:,} rows"
    told = f"Of {plain(first['source'])}, {kept} stayed as they came"
    rows = rows.sort(pl.col("name").replace_strict(order), "place")
    return charts.shares(
        rows,
        "What became of each source's rows",
        f"{told}{'; the other sources fared better' if len(worst) > 1 else ''}.",
    )


def reason_counts(outcomes: Outcomes) -> Picture:
    """Rows by reason, the commonest first."""
    rows = outcomes.reasons.select("rows", "outcome", name="reason").head(MOST_BARS)
    first = outcomes.reasons.row(0, named=True)
    told = f"The commonest reason is {first['reason']}: {counted(first['rows'], 'row')}."
    return charts.counts(rows, "Rows by the reason why they were corrected or dropped", told)


def thresholds(subject: Subject, quantity: str, teacher: str) -> list[Line]:
    """The rules' thresholds of one quantity; those of another teacher than the curation's are none."""
    if teacher != subject.result.teacher:
        return [Line(0.0, "0")] if quantity == "margin" else []
    rules = subject.thresholds
    if quantity == "margin":
        lines = [Line(rules.min_teacher_margin, f"min_teacher_margin {rules.min_teacher_margin:g}")]
        return [Line(-rules.swap_margin, f"swap_margin {0 - rules.swap_margin:g}"), *lines]
    lines = [Line(rules.irrelevant_below, f"irrelevant_below {rules.irrelevant_below:g}")]
    if (least := rules.min_positive_score) is not None:
        lines.append(Line(least, f"min_positive_score {least:g}"))
    return sorted([*lines, Line(rules.relevant_from, f"relevant_from {rules.relevant_from:g}")])


def of_teacher(subject: Subject, scores: ScoreFigures, teacher: str) -> list[Picture]:
    """Scores of positives and negatives over one axis, and the margins, of all sources together."""
    bins = (
        scores.bins.filter(pl.col("teacher") == teacher)
        .group_by("quantity", "bin")
        .agg(pl.col("low", "high").first(), pl.col("rows").sum())
    )
    row = scores.teachers.filter(pl.col("teacher") == teacher).row(0, named=True)
    if not row["scored"]:
        return []
    unit = subject.unit if teacher == subject.result.teacher else "raw score"
    told = f"{_means(row)}; the further the two lines lie apart, the surer is the teacher."
    name = plain(teacher, 40)
    about = (
        f"The positive leads by {row['margin_mean']:.2f} on average; {row['contradicted'] / row['scored']:.1%} of the "
        "rows lie below 0, where the teacher contradicts the triplet."
    )
    margins = bins.filter(pl.col("quantity") == "margin").sort("low")
    lines = {of: thresholds(subject, of, teacher) for of in ("score", "margin")}
    return [
        charts.outlines(_of_sides(bins), SIDES, f"Scores by {name}", told, unit, lines=lines["score"]),
        charts.histogram(margins, f"Margins by {name}", about, f"margin ({unit})", lines=lines["margin"]),
    ]


def _of_sides(bins: pl.DataFrame) -> pl.DataFrame:
    """Those of positives and negatives, as `charts.outlines` takes them."""
    return bins.filter(pl.col("quantity").is_in([*SIDES])).rename({"quantity": "series"}).sort("series", "low")


def _means(row: Row) -> str:
    return f"Positives score {row['positive_mean']:.2f} on average, negatives {row['negative_mean']:.2f}"


def multiples(subject: Subject, outcomes: Outcomes, scores: ScoreFigures) -> list[tuple[str, list[Picture]]]:
    """(source, its scores and its margins by the curation's teacher), the worst source first; each over one axis."""
    teacher, worst = subject.result.teacher, outcomes.sources.head(MULTIPLES)
    drawn = scores.bins.filter(pl.col("source").is_in(worst["source"].implode()) & (pl.col("teacher") == teacher))
    of_margins = drawn.filter(pl.col("quantity") == "margin")
    lines = {of: [Line(one.value, "") for one in thresholds(subject, of, teacher)] for of in ("score", "margin")}
    found = []
    for row in worst.iter_rows(named=True):
        sides, margins = (bins.filter(source=row["source"]) for bins in (_of_sides(drawn), of_margins))
        if margins.is_empty():
            continue
        told = scores.sources.filter(source=row["source"], teacher=teacher).row(0, named=True)
        about = (
            f"{row['kept'] / row['rows']:.1%} kept, {row['corrected']:,} corrected, {row['dropped']:,} dropped"
            f"{', mostly ' + row['main_reason'] if row['main_reason'] else ''}; the teacher contradicts "
            f"{told['contradicted'] / max(1, told['scored']):.1%}."
        )
        name, unit = plain(row["source"]), subject.unit
        pair = [
            charts.outlines(
                sides, SIDES, f"Scores of {name}", f"{_means(told)}.", unit,
                lines=lines["score"], ends=charts.ends_of(_of_sides(drawn)),
            ),
            charts.histogram(
                margins, f"Margins of {name}", about, f"margin ({unit})",
                lines=lines["margin"], ends=charts.ends_of(of_margins),
            ),
        ]  # fmt: skip
        found.append((row["source"], pair))
    return found


def agreement(told: Agreement) -> Picture:
    """Where two teachers rank the same triplets by their margins."""
    sentence = (
        f"Spearman's rank correlation of the margins is {told.margin_correlation:.3f}; of {told.same_sign:.1%} of the "
        "triplets both put the same passage first. Agreement lies on the diagonal."
    )
    return charts.ranks(told.cells, 1 / GRID, told.teachers, "Ranks of the same triplets by two teachers", sentence)


def movement(moved: Movement) -> Picture | None:
    """What moved, from where to where, as ribbons; None where nothing did."""
    flows = moved.flows.filter(pl.col("before") != pl.col("after"))
    if flows.is_empty():
        return None
    most, to, rows = flows.row(0)
    sentence = (
        f"Left what the {moved.moved:,} rows that moved were in {moved.before}, right what they are now, in its "
        f"colour; most, {rows:,}, went from {most} to {to}. The {moved.stayed:,} rows of the same outcome are not "
        "drawn: beside them little else would be seen."
    )
    return flow.flow(flow.gathered(flows), "Rows that moved, from what they were to what they are", sentence)


def lengths(told: LengthFigures) -> list[Picture]:
    """Characters of each kind of text; where the teacher's max_tokens cuts."""
    medians = ", ".join(f"{name} {value:,.0f}" for name, value in told.medians.items())
    found = [
        charts.lengths(told.bins, "Lengths of the texts", f"Half of the texts have fewer characters than: {medians}.")
    ]
    cut = told.cut.filter(pl.col("rows_cut") > 0).head(MOST_BARS)
    if len(cut):
        rows = cut.select(name="source", share=pl.col("rows_cut") / pl.col("rows"))
        first = cut.row(0, named=True)
        sentence = (
            f"Of {plain(first['source'])}, {first['rows_cut'] / first['rows']:.1%} of the rows are longer than the "
            "teacher reads, the most of all sources."
        )
        title = "Rows of which the teacher did not read all"
        found.append(charts.parts(rows, title, sentence, "share of the source's rows"))
    return found


def training(curves: Curves) -> list[Picture]:
    """Loss by term, gradient norm, padding, and the dev figure where it was measured."""
    name = plain(curves.name, 30)
    wanted: Sequence[tuple[str, tuple[str, ...], str]] = (
        ("Loss", ("loss",), "loss"),
        *((f"Term {term}", (term,), term) for term in curves.terms if len(curves.terms) > 1),
        ("Gradient norm", ("grad_norm",), "norm before clipping"),
        ("Padding", ("padding_share",), "share of tokens"),
        ("Dev nDCG@10", ("dev_ndcg_at_10",), "nDCG@10"),
    )
    no_padding = curves.of("padding_share")["value"].max() == 0
    found = []
    for title, measures, axis in wanted:
        points = curves.of(*measures).sort("measure", "step")
        if points.is_empty() or (title == "Padding" and no_padding):
            continue
        tenth = max(1, len(points) // 10)  # a single step is chance
        first, last = (float(np.mean(ends["value"].to_numpy())) for ends in (points.head(tenth), points.tail(tenth)))
        over = ", mean of the first and of the last tenth" if tenth > 1 else ""
        sentence = f"{title}: from {first:.3g} to {last:.3g} in {curves.steps:,} steps{over}."
        sentence += " No token was padding." if title == "Loss" and no_padding else ""
        found.append(charts.curves(points, f"{title} of {name}", sentence, axis))
    return found


def dimensions(measured: Measured) -> Picture:
    """The figure that the model card has as well: nDCG@10 by dimension, beside the other systems."""
    best, price = measured.best, measured.price
    told = f"The student reaches {best[METRIC]:.3f} at {best['dimension']} dimensions"
    if price:
        told += (
            f" and {price.value:.3f} at {price.dimension}, a difference of {price.difference:+.3f} [{price.low:+.3f}, "
            f"{price.high:+.3f}] query by query"
        )
    others = [
        f"{row['system']} {row[METRIC]:.3f}"
        for row in measured.summary.unique("system", keep="first", maintain_order=True).to_dicts()
        if row["system"] != "student"
    ]
    sentence = f"{told}{'; ' + ', '.join(others) if others else ''}. Bars are 95 % intervals of the student."
    return charts.by_dimension(measured.summary, f"{METRIC} by dimension", sentence, METRIC)


def sizes(report: Report) -> list[Picture]:
    """Quality over layers, and over bytes of weights, where models differ in them."""
    if not report.measured:
        return []
    data_set = report.measured[0].data_set
    rows = [
        {
            "name": one.model_id,
            "value": one.best[METRIC],
            "low": one.best["low"],
            "high": one.best["high"],
            "layers": report.sizes[one.model_id].layers,
            "megabytes": (report.sizes[one.model_id].weights_bytes or 0) / 1e6,
        }
        for one in report.measured
        if one.data_set == data_set
    ]
    frame, found = pl.DataFrame(rows), []
    for column, axis in (("layers", "layers"), ("megabytes", "MB of weights")):
        known = frame.filter(pl.col(column).is_not_null() & (pl.col(column) > 0))
        if known[column].n_unique() > 1:
            title, sentence = f"{METRIC} by {axis}", f"Each model at its largest dimension, on {plain(data_set, 60)}."
            found.append(charts.scatter(known, column, title, sentence, axis, METRIC))
    return found


def by_query(told: ByQuery) -> Picture:
    """How far the student lies from its teacher, query by query."""
    wins = counted(told.wins, "query", "queries")
    level = f"equal on {told.ties:,} and worse on {told.losses:,}"
    sentence = f"At {told.dimension} dimensions the student is better on {wins}, {level}."
    return charts.histogram(
        told.bins, "Student minus teacher, by query", sentence, f"difference of {METRIC}", of="queries"
    )


def graph(told: Lineage) -> Picture:
    """From files to weights: what stands below was made of what an arc leads to."""
    place = {node.id: number for number, node in enumerate(told.nodes)}
    nodes = pl.DataFrame(
        [(node.label, node.kind, place[node.id], f"#{node.id}") for node in told.nodes],
        ["label", "kind", "place", "link"],
        orient="row",
    )
    points = []
    for number, (parent, made) in enumerate(told.edges):
        ends = place[parent], place[made]
        out = -min(1.0, 0.12 + 0.1 * abs(ends[1] - ends[0]))
        way = [(ends[0], 0.0), (ends[0], out), (ends[1], out), (ends[1], 0.0)]
        points += [(number, float(at), offset, step) for step, (at, offset) in enumerate(way)]
    edges = pl.DataFrame(points, ["edge", "place", "offset", "step"], orient="row")
    kinds = [sum(node.kind == kind for node in told.nodes) for kind in ("file", "version", "model")]
    sentence = (
        f"Squares are input files ({kinds[0]}), circles table versions ({kinds[1]}), diamonds models ({kinds[2]}). "
        "Each stands below what it was made of, and an arc joins the two. A name leads to the command that prints it."
    )
    return charts.graph(nodes, edges, "From files to weights", sentence)
