"""Do all of it: ingest (or mine) to evaluate."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.options import (
    DEFAULT_RECIPE,
    BeirOption,
    ColumnsOption,
    InputOption,
    LicenceOption,
    NoteOption,
    RecipeOption,
    SetOption,
    SourceOption,
    TablesOption,
    open_tables,
    parse_columns,
    print_versions,
)

if TYPE_CHECKING:
    from jobs.recipe import Recipe
    from pipelines.evaluate import Evaluation
    from pipelines.storage import TableVersion


def main(
    input_: InputOption,
    name: Annotated[str, typer.Option("--name", help="the model's name")],
    mine_negatives: Annotated[
        bool, typer.Option("--mine", help="the input holds pairs: mine negatives for them")
    ] = False,
    columns: ColumnsOption = None,
    source: SourceOption = None,
    licence: LicenceOption = None,
    beir: BeirOption = None,
    tables: TablesOption = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    note: NoteOption = "",
) -> None:
    from jobs.recipe import load_recipe
    from pipelines import ingest, mine

    resolved, named = load_recipe(recipe, set_), parse_columns(columns)
    root = open_tables(tables, resolved, note)
    if mine_negatives:
        triplets = mine.run(root, input_, resolved.mine, columns=named, source=source, licence=licence)
    else:
        triplets = ingest.run(root, input_, resolved.ingest, columns=named, source=source, licence=licence)
    print_versions([triplets])
    evaluation = run_all(triplets, name, resolved, beir or [])
    print(evaluation.text())
    print_versions([evaluation.version])


def run_all(triplets: "TableVersion", name: str, recipe: "Recipe", beir: list[str]) -> "Evaluation":
    """triplets -> scored_triplets -> curated_triplets -> models -> evaluations; prints each version as it is made."""
    from jobs.cluster import connect
    from jobs.resolve import newest_vectors
    from pipelines import curate, distill, evaluate, score

    scored = score.run(triplets, recipe.score, vectors=bool(recipe.distill.vectors), connect=connect)
    print_versions(scored)
    curated = curate.run(scored[0], recipe.curate).version
    assert curated is not None, "only a dry run has no version"
    print_versions([curated])
    vectors = newest_vectors(triplets.tables, recipe)
    print_versions([distill.run(curated, recipe.distill, name=name, vectors=vectors, connect=connect)])
    return evaluate.run(triplets.tables, name, recipe.evaluate, on=curated, beir=beir)
