"""A model card: valid front matter, the measured table, the data behind the model, and how to use it cut or whole.

The text is model_card.md beside this, a Jinja template; here are its tables.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from sentence_transformers import SentenceTransformer

from pipelines.stage.render import markdown_table

TEMPLATE = Path(__file__).with_name("model_card.md")
SYSTEM = ["data_set", "model_id", "dimension"]
VERSION = ["version", "stage", "table_id", "digest"]

Row = dict[str, Any]


def model_card(manifest: Row, model: SentenceTransformer, evaluations: pl.DataFrame) -> str:
    """The whole README.md. `evaluations` are rows of that table: this model's and those of what it is compared with."""
    model_id = manifest["model"]["model_id"]
    means = mean_values(evaluations)
    card_data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "information-retrieval", "distillation", "matryoshka"],
        model_name=manifest["model"]["name"],
        eval_results=eval_results(means.filter(pl.col("model_id") == model_id)) or None,
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
        measured=measured_table(means, model_id),
        stages=stage_table(manifest["stages"]),
        others=manifest["other_curations"],
        outcomes=outcome_table(manifest["curation"]),
        outcome_table=outcome_table,
        sources=source_table(manifest),
        versions=markdown_table(VERSION, [[version[column] for column in VERSION] for version in manifest["versions"]]),
    )
    return str(card)


def mean_values(evaluations: pl.DataFrame) -> pl.DataFrame:
    """The mean over queries of each metric, and how many queries it is of."""
    return (
        evaluations.group_by(*SYSTEM, "metric")
        .agg(value=pl.col("value").mean(), queries=pl.len())
        .sort("data_set", "model_id", "dimension", "metric", descending=[False, False, True, False])
    )


def eval_results(means: pl.DataFrame) -> list[EvalResult]:
    """The model's own means as the front matter's model-index wants them."""
    return [
        EvalResult(
            task_type="information-retrieval",
            task_name="Information Retrieval",
            dataset_type=row["data_set"],
            dataset_name=row["data_set"],
            metric_type=row["metric"].lower().replace("@", "_at_"),
            metric_name=f"{row['metric']} at {row['dimension']} dimensions",
            metric_value=round(row["value"], 4),
        )
        for row in means.to_dicts()
    ]


def measured_table(means: pl.DataFrame, model_id: str) -> str:
    """One line per data set, system and dimension, one column per metric; empty when nothing was measured."""
    if means.is_empty():
        return ""
    metrics = means["metric"].unique().sort().to_list()
    ours_first = means.sort(pl.col("model_id") != model_id, maintain_order=True).sort("data_set", maintain_order=True)
    wide = ours_first.pivot("metric", index=[*SYSTEM, "queries"], values="value", maintain_order=True)
    rows = [
        [
            row["data_set"],
            "this model" if row["model_id"] == model_id else row["model_id"],
            row["dimension"] or "",
            f"{row['queries']:,}",
            *("" if row[metric] is None else f"{row[metric]:.3f}" for metric in metrics),
        ]
        for row in wide.to_dicts()
    ]
    return markdown_table(["data set", "system", "dimension", "queries", *metrics], rows)


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
