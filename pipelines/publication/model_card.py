"""A model card: valid front matter, the measured table, the data behind the model, and how to use it cut or whole.

The text is model_card.md beside this, a Jinja template; here are its tables. Figures and pictures are the report's.
"""

import html
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from sentence_transformers import SentenceTransformer

from pipelines.curation.outcomes import by_source
from pipelines.report.charts import Picture
from pipelines.report.pictures import dimensions, outcome_shares
from pipelines.report.quality import METRIC, OTHER_MEANS, OTHER_METRICS, Measured
from pipelines.stage.render import markdown_table

TEMPLATE = Path(__file__).with_name("model_card.md")
QUALITY, CURATION = "quality.svg", "curation.svg"
OUTCOME_COUNTS = {"source": pl.String, "outcome": pl.String, "reason": pl.String, "rows": pl.Int64}
VERSION = ["version", "stage", "table_id", "digest"]

Row = dict[str, Any]


def model_card(manifest: Row, model: SentenceTransformer, measured: Sequence[Measured]) -> str:
    """The whole README.md. `measured` is what the report has of this model, `card_pictures` lie beside the card."""
    model_id, pictures = manifest["model"]["model_id"], card_pictures(manifest, measured)
    card_data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "information-retrieval", "distillation", "matryoshka"],
        model_name=manifest["model"]["name"],
        eval_results=eval_results(measured) or None,
    )
    assert model.transformers_model is not None, "a student is a transformer"
    facts = model.transformers_model.config
    card = ModelCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        name=manifest["model"]["name"],
        model_id=model_id,
        manifest=manifest,
        width=model.get_embedding_dimension(),
        dimensions=list(getattr(facts, "matryoshka_dimensions", [])),
        layers=list(getattr(facts, "distilled_from_layers", [])),
        parent=getattr(facts, "distilled_from", None),
        narrowed_from=getattr(facts, "narrowed_from_width", None),
        max_tokens=model.max_seq_length,
        millions=round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1),
        prompts={name: prompt for name, prompt in model.prompts.items() if prompt},
        default_prompt=f"that of {model.default_prompt_name}" if model.default_prompt_name else None,
        measured=measured_table(measured),
        pictures={name: _plain(picture.sentence) for name, picture in pictures.items()},
        stages=stage_table(manifest["stages"]),
        others=manifest["other_curations"],
        outcomes=outcome_table(manifest["curation"]),
        outcome_table=outcome_table,
        sources=source_table(manifest),
        versions=markdown_table(VERSION, [[version[column] for column in VERSION] for version in manifest["versions"]]),
    )
    return str(card)


def card_pictures(manifest: Row, measured: Sequence[Measured]) -> dict[str, Picture]:
    """File name -> the picture that the report has as well: what the model is worth, what curation did."""
    counts = pl.DataFrame(manifest["curation"], schema=OUTCOME_COUNTS)
    sources = by_source(counts.with_columns(pl.col("reason").fill_null("")))
    found = {QUALITY: dimensions(measured[0])} if measured else {}
    return found | ({CURATION: outcome_shares(sources)} if len(sources) else {})


def eval_results(measured: Iterable[Measured]) -> list[EvalResult]:
    """The model's own means as the front matter's model-index wants them."""
    return [
        EvalResult(
            task_type="information-retrieval",
            task_name="Information Retrieval",
            dataset_type=one.data_set,
            dataset_name=one.data_set,
            metric_type=metric.lower().replace("@", "_at_"),
            metric_name=f"{metric} at {row['dimension']} dimensions",
            metric_value=round(row[metric], 4),
        )
        for one in measured
        for row in one.summary.filter(pl.col("model_id") == one.model_id).to_dicts()
        for metric in (METRIC, *OTHER_METRICS)
        if row[metric] is not None
    ]


def measured_table(measured: Iterable[Measured]) -> str:
    """One line per data set, system and dimension, one column per metric; empty when nothing was measured."""
    rows = [
        [
            one.data_set,
            "this model" if row["model_id"] == one.model_id else row["model_id"],
            row["dimension"] or "",
            f"{row['queries']:,}",
            f"{row[METRIC]:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            *("" if row[metric] is None else f"{row[metric]:.3f}" for metric in OTHER_METRICS),
        ]
        for one in measured
        for row in one.summary.to_dicts()
    ]
    columns = ["data set", "system", "dimension", "queries", METRIC, "95 % interval", *OTHER_MEANS]
    return markdown_table(columns, rows) if rows else ""


def _plain(sentence: str) -> str:
    """A sentence as Markdown shows it letter by letter: no name in it can become markup."""
    return html.escape(re.sub(r"([\\`*_\[\]!#|~])", r"\\\1", sentence), quote=False)


def stage_table(stages: Iterable[Row]) -> str:
    """One line per training stage: its data, how much it saw and how it was trained; empty for a single stage."""
    rows = [
        [
            number,
            stage["name"],
            stage["curated"],
            f"{stage['training_data'].get('triplets', 0):,}",
            f"{stage['steps']:,}",
            f"{stage['config']['learning_rate']:g}",
            f"{stage['seconds']:,.0f}",
        ]
        for number, stage in enumerate(stages, start=1)
    ]
    columns = ["stage", "name", "data", "triplets", "steps", "learning rate", "seconds"]
    return markdown_table(columns, rows) if rows else ""


def outcome_table(curation: Iterable[Row]) -> str:
    """Triplets by outcome and reason, over all sources."""
    frame = pl.DataFrame(list(curation), schema={"outcome": pl.String, "reason": pl.String, "rows": pl.Int64})
    counts = frame.group_by("outcome", "reason").agg(pl.col("rows").sum())
    ordered = counts.sort("outcome", "rows", "reason", descending=[True, True, False]).rows()
    rows = [(outcome, reason, f"{count:,}") for outcome, reason, count in ordered]
    return markdown_table(["outcome", "reason", "triplets"], rows)


def source_table(manifest: Row) -> str:
    """One line per source: what became of its triplets, and the licences its files were ingested under."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in manifest["curation"]:
        counts[row["source"], row["outcome"]] += row["rows"]
    licences = {
        source["source"]: ", ".join(sorted({licence or "not stated" for licence in source["licence"]}))
        for source in manifest["sources"]
    }
    outcomes = ["kept", "corrected", "dropped"]
    rows = [
        [source, *(f"{counts[source, outcome]:,}" for outcome in outcomes), licences.get(source, "not stated")]
        for source in sorted(licences.keys() | {source for source, _ in counts})
    ]
    return markdown_table(["source", *outcomes, "licence"], rows)
