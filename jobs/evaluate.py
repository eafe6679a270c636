"""Measure a model at every dimension, beside teacher and BM25.

nDCG@10, MRR@10 and Recall@100.
"""

import sys
from typing import Annotated

from cyclopts import Parameter

from jobs.options import BeirOption, JsonOption, StageOptions, print_frame, print_versions


def main(
    *,
    model: Annotated[str, Parameter("--model", help="NAME or NAME@12hex of the models table")],
    on: Annotated[
        str | None, Parameter("--on", help="curated_triplets@version whose test split is asked; else the model's own")
    ] = None,
    beir: BeirOption = None,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    from pipelines import evaluate

    recipe, tables = stage.load()
    print("of the recipe [evaluate] alone is taken: all else is the model's own", file=sys.stderr)
    curated = tables.parse(on).usable() if on is not None else None
    evaluation = evaluate.run(tables, model, recipe.evaluate, on=curated, beir=beir or ())
    if as_json:
        print_frame(evaluation.summary, as_json=True)
        print_versions([evaluation.version], file=sys.stderr)
    else:
        print(evaluation.text())
        print_versions([evaluation.version])
