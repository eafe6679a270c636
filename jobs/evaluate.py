"""Measure a model at every dimension, beside teacher and BM25.

nDCG@10, MRR@10 and Recall@100.
"""

import sys
from typing import Annotated

import typer

from jobs.options import (
    DEFAULT_RECIPE,
    BeirOption,
    JsonOption,
    NoteOption,
    RecipeOption,
    SetOption,
    TablesOption,
    open_tables,
    print_frame,
    print_versions,
)


def main(
    model: Annotated[str, typer.Option("--model", help="NAME or NAME@12hex of the models table")],
    on: Annotated[
        str | None,
        typer.Option("--on", help="curated_triplets@version whose test split is asked; else the model's own"),
    ] = None,
    beir: BeirOption = None,
    tables: TablesOption = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    from jobs.recipe import load_recipe
    from pipelines import evaluate

    resolved = load_recipe(recipe, set_)
    root = open_tables(tables, resolved, note)
    curated = root.parse(on) if on else None
    evaluation = evaluate.run(root, model, resolved.evaluate, on=curated, beir=beir or ())
    if as_json:
        print_frame(evaluation.summary, as_json=True)
        print_versions([evaluation.version], file=sys.stderr)
    else:
        print(evaluation.text())
        print_versions([evaluation.version])
