"""Train a student on the curated triplets.

Goes on where it stopped.
"""

from typing import Annotated

import typer

from jobs.options import (
    DEFAULT_RECIPE,
    JsonOption,
    NoteOption,
    RecipeOption,
    SetOption,
    TablesOption,
    open_tables,
    print_versions,
)


def main(
    name: Annotated[str, typer.Option("--name", help="the model's name")],
    tables: TablesOption = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="curated_triplets@version; the newest if not given")
    ] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    from jobs.cluster import connect
    from jobs.recipe import load_recipe
    from jobs.resolve import newest_vectors, resolve
    from pipelines import distill

    resolved = load_recipe(recipe, set_)
    curated = resolve(open_tables(tables, resolved, note), "curated_triplets", from_)
    vectors = newest_vectors(curated.tables, resolved)
    version = distill.run(curated, resolved.distill, name=name, vectors=vectors, connect=connect)
    print_versions([version], as_json)
