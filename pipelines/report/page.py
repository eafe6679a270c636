"""The page: a Report in, one HTML file out that loads nothing and runs nothing.

    Report  --render-->  page.html.jinja (to be read alone), macros.html.jinja, page.css, colours.css

Everything that comes from data is escaped by Jinja (autoescape), and shown by `hostile_text`. The page forbids itself
all but its one style by a content security policy.
"""

import base64
import hashlib
import json
import shlex
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from pipelines.report import pictures, tables
from pipelines.report.cells import Code, Command, Figures, Made, Number, Text
from pipelines.report.charts import Picture
from pipelines.report.gather import Report
from pipelines.report.hostile_text import Piece, pieces, plain
from pipelines.report.quality import METRIC, Measured
from pipelines.report.reasons import meaning
from pipelines.report.svg import drawn

FOLDER = Path(__file__).parent
GENERATOR = "python -m jobs report"
MOST_DRAWN = 12  # models on data sets whose figures have a picture, too
NOT_CHANCE = 0.05  # p-values below it
LEAST_CUT = 30  # characters: to say how many fewer there are takes as much room
SYSTEMS = {"teacher": "its teacher", "untrained": "the untrained student", "bm25": "BM25"}
STANDS_OUT = 0.05  # of the rows: by how much less of the worst source than of all others stays as it came

SECTIONS = {  # in their order -> how the navigation calls them
    "summary": "Summary",
    "scores": "What the teacher said",
    "sources": "Sources",
    "reasons": "Reasons",
    "agreement": "Two teachers",
    "movement": "What moved",
    "lengths": "Lengths",
    "training": "Training",
    "quality": "Quality",
    "queries": "Query by query",
    "lineage": "Lineage",
    "absent": "What is not here",
}

Row = dict[str, Any]


def render(report: Report) -> str:
    """The whole page as text."""
    style = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in ("colours.css", "page.css"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = _environment().get_template("page.html.jinja")
    return template.render(
        generator=GENERATOR,
        command=GENERATOR,
        style=Markup(style),  # our own files
        style_hash=f"sha256-{digest}",
        metric=METRIC,
        subject=report.subject,
        sections=SECTIONS,
        there=_there(report),
        printed={node.id for node in report.lineage.nodes if node.command},
        n=_numbers(report),
        **_summary(report),
        **_sections(report),
    )


def _there(report: Report) -> set[str]:
    """The sections about which there is something; of the others the last one has a sentence each."""
    without = {
        "scores": report.scores is None,
        "reasons": report.outcomes.reasons.is_empty(),
        "agreement": report.agreement is None,
        "movement": report.movement is None,
        "lengths": report.lengths is None,
        "training": not report.subject.models,
        "quality": not report.subject.models,
        "queries": isinstance(report.by_query, str),
    }
    without["absent"] = not any(without.values())
    return {name for name in SECTIONS if not without.get(name, False)}


def _environment() -> jinja2.Environment:
    """Jinja with escaping on, an error at every unknown name, and what the macros need."""
    loader = jinja2.FileSystemLoader(FOLDER, encoding="utf-8")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    number = count(1)
    environment.globals["pieces"] = _pieces
    environment.globals["draw"] = lambda picture: drawn(picture, next(number))
    environment.filters["attribute"] = lambda text: plain(text, 200)
    for kind in (Number, Text, Figures, Code, Made, Command):
        environment.tests[f"{kind.__name__.lower()}_cell"] = lambda value, kind=kind: isinstance(value, kind)
    return environment


def _pieces(text: str, limit: int, chars: int | None = None) -> Iterator[Piece]:
    """`pieces`, of a text that may have been cut before it came: `chars` is how many it had."""
    whole = max(chars or 0, len(text))
    limit = whole if whole == len(text) <= limit + LEAST_CUT else limit
    yield from (piece for piece in pieces(text[:limit], limit))
    if whole > limit:
        yield Piece(f"… {whole - limit:,} more characters", True)


def _numbers(report: Report) -> dict[str, Number | None]:
    """The figures that stand in sentences."""
    outcomes, total = report.outcomes, report.outcomes.rows()
    found: dict[str, Number | None] = {
        "rows": Number(total, "rows"),
        "sources": Number(len(outcomes.sources), "sources"),
    }
    for outcome in ("kept", "corrected", "dropped"):
        rows = outcomes.rows(outcome)
        found[outcome] = Number(rows, f"{outcome}_rows")
        found[f"{outcome}_share"] = Number(rows / total if total else None, f"{outcome}_share", form="share")
    if report.quarantined:
        found["quarantined"] = Number(report.quarantined, "quarantined_rows")
    if told := report.agreement:
        found["agreement_triplets"] = Number(told.triplets, "agreement_triplets")
        found["agreement_share"] = Number(told.share, form="share")
        found["agreement_correlation"] = Number(told.margin_correlation, "agreement_correlation", form="score")
        found["agreement_same"] = Number(told.same_sign, "agreement_same_passage", form="share")
    if moved := report.movement:
        found |= {"moved": Number(moved.moved, "moved_rows"), "stayed": Number(moved.stayed, "stayed_rows")}
    if lengths := report.lengths:
        found["measured_triplets"] = Number(lengths.triplets, "measured_triplets")
        found["measured_share"] = Number(lengths.share, form="share")
    if not isinstance(queries := report.by_query, str):
        found["wins"] = Number(queries.wins, "queries_won")
        found["ties"] = Number(queries.ties, "queries_level")
        found["losses"] = Number(queries.losses, "queries_lost")
    return found


def _summary(report: Report) -> Row:
    """What the first section says in sentences, beside counts."""
    headline = report.headline
    commonest = {outcome: _commonest(report, outcome) for outcome in ("dropped", "corrected")}
    worst = _worst_source(report)
    if worst["main_reason"] in [one["reason"] for one in commonest.values() if one]:
        worst["meaning"] = ""  # it was told
    return {
        "commonest": commonest,
        "worst": worst,
        "rules": report.subject.thresholds,
        "headline": _headline(report, headline) if headline else None,
        "price": _price(headline) if headline else None,
    }


def _commonest(report: Report, outcome: str) -> Row | None:
    reasons = report.outcomes.reasons.filter(pl.col("outcome") == outcome)
    if reasons.is_empty():
        return None
    first = reasons.row(0, named=True)
    return {"reason": first["reason"], "rows": Number(first["rows"]), "meaning": meaning(first["reason"])}


def _worst_source(report: Report) -> Row:
    """The source of which the least stayed as it came, and whether it stands out from all others together."""
    sources = report.outcomes.sources
    worst, others = sources.row(0, named=True), sources.slice(1)
    rows, kept = int(others["rows"].sum()), int(others["kept"].sum())
    own, of_others = worst["kept"] / worst["rows"], kept / rows if rows else None
    return {
        "source": worst["source"],
        "rows": Number(worst["rows"]),
        "kept": Number(own, "worst_source_kept_share", form="share"),
        "others": None if of_others is None else Number(of_others, "other_sources_kept_share", form="share"),
        "stands_out": of_others is not None and of_others - own >= STANDS_OUT,
        "main_reason": worst["main_reason"] or "",
        "meaning": meaning(worst["main_reason"]) if worst["main_reason"] else "",
    }


def _headline(report: Report, measured: Measured) -> Row:
    """The first model's figure, beside those it is compared with."""
    best = measured.best
    row = next(one for one in report.subject.models if one["model_id"] == measured.model_id)
    return {
        "model_id": measured.model_id,
        "data_set": measured.data_set,
        "dimension": best["dimension"],
        "value": Number(best[METRIC], "headline_ndcg_at_10", form="score"),
        "interval": f"{best['low']:.3f} to {best['high']:.3f}",
        "queries": Number(best["queries"], "headline_queries"),
        "others": _against(best, ("teacher", "untrained", "bm25")),
        "is_curated": measured.is_curated,
        "trained_on": row["curated_version"],
    }


def _lacking(measured: Measured) -> Row | None:
    """What a model is not compared with on a data set, why, and the words of the command that measures it."""
    if not measured.lacking:
        return None
    named = [f"{SYSTEMS[role]}{f' ({why})' if why else ''}" for role, why in measured.lacking.items()]
    asked = f"--on {measured.data_set.partition('/')[0]}" if measured.is_curated else "--beir FOLDER"
    compare = shlex.quote(f"evaluate.compare_with={json.dumps(list(SYSTEMS))}")
    name = measured.model_id.partition("@")[0]
    systems = " and ".join(named)
    return {"systems": systems[0].upper() + systems[1:], "words": f"evaluate --model {name} {asked} --set {compare}"}


def _against(row: Row, systems: tuple[str, ...]) -> list[Row]:
    """The student's differences from others at a dimension, each with its p-value."""
    others = []
    for system in systems:
        if (difference := row[f"minus_{system}"]) is not None:
            p_value = row[f"p_{system}"]
            certain = "" if p_value < NOT_CHANCE else ": not told apart"
            others.append(
                {
                    "name": SYSTEMS[system],
                    "value": Number(row[METRIC] - difference, form="score"),
                    "difference": Number(difference, form="signed"),
                    "p": tables.p_told(p_value) + certain,
                }
            )
    return others


def _price(measured: Measured) -> Row | None:
    price = measured.price
    if price is None:
        return None
    return {
        "dimension": price.dimension,
        "full": price.full,
        "difference": Number(price.difference, "price_ndcg_at_10", form="signed"),
        "interval": f"{price.low:+.3f} to {price.high:+.3f}",
        "value": Number(price.value, form="score"),
        "full_value": Number(price.full_value, form="score"),
        "bytes": Number(price.dimension / price.full, form="share"),
        "others": _against(measured.student(price.dimension), ("bm25",)),
    }


def _sections(report: Report) -> Row:
    """Pictures, tables and examples by their section."""
    scores, lengths, moved, agreed = report.scores, report.lengths, report.movement, report.agreement
    by_query = report.by_query
    return {
        "tables": _tables(report),
        "pictures": {
            "outcome_shares": pictures.outcome_shares(report.outcomes.sources),
            "reason_counts": pictures.reason_counts(report.outcomes) if len(report.outcomes.reasons) else None,
            "agreement": pictures.agreement(agreed) if agreed else None,
            "movement": pictures.movement(moved) if moved else None,
            "lengths": pictures.lengths(lengths) if lengths else [],
            "sizes": pictures.sizes(report),
            "by_query": None if isinstance(by_query, str) else pictures.by_query(by_query),
            "graph": pictures.graph(report.lineage),
        },
        "scores": _scores(report),
        "multiples": pictures.multiples(report.subject, report.outcomes, scores) if scores else [],
        "reasons": _reasons(report),
        "agreement": agreed,
        "movement": moved,
        "lengths": lengths,
        "training": [
            (model_id, told, [] if isinstance(told, str) else pictures.training(told))
            for model_id, told in report.curves.items()
        ],
        "quality": [
            (one, pictures.dimensions(one) if number < MOST_DRAWN else None, tables.measured(one), _lacking(one))
            for number, one in enumerate(report.measured)
        ],
        "by_query": by_query,
    }


def _scores(report: Report) -> list[tuple[str, list[Picture]]]:
    """Each teacher's pictures, the curation's own first."""
    if report.scores is None:
        return []
    own = report.subject.result.teacher
    names = sorted(report.scores.teachers["teacher"], key=lambda name: (name != own, name))
    return [(name, pictures.of_teacher(report.subject, report.scores, name)) for name in names]


def _reasons(report: Report) -> list[Row]:
    return [
        {
            "name": row["reason"],
            "rows": Number(row["rows"]),
            "meaning": meaning(row["reason"]),
            "examples": report.examples.get(row["reason"], []),
        }
        for row in report.outcomes.reasons.iter_rows(named=True)
    ]


def _tables(report: Report) -> Row:
    scores, lengths, moved, agreed = report.scores, report.lengths, report.movement, report.agreement
    return {
        "splits": tables.splits(report.outcomes),
        "teachers": tables.teachers(scores) if scores else None,
        "scores_by_source": tables.scores_by_source(scores) if scores else None,
        "sources": tables.sources(report.outcomes),
        "reasons": tables.reasons(report.outcomes),
        "agreement": tables.agreement(agreed) if agreed else None,
        "rules": tables.rules(moved) if moved else None,
        "moved": tables.moved(moved) if moved else None,
        "moved_by_source": tables.moved_by_source(moved) if moved else None,
        "cut": tables.cut(lengths) if lengths else None,
        "models": tables.models(report),
        "lineage": tables.lineage(report.lineage),
    }
