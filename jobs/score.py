"""Score every query/passage pair with the recipe's teacher.

Goes on where it stopped; several may run at once.
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
    tables: TablesOption = None,
    from_: Annotated[str | None, typer.Option("--from", help="triplets@version; the newest if not given")] = None,
    share: Annotated[float, typer.Option("--share", help="part of the queries to score, e.g. 0.01")] = 1.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be scored, and stop")] = False,
    vectors: Annotated[bool, typer.Option("--vectors", help="also store a bi-encoder's vector of each text")] = False,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    from jobs.cluster import connect
    from jobs.recipe import load_recipe
    from jobs.resolve import resolve
    from pipelines import score

    resolved = load_recipe(recipe, set_)
    triplets = resolve(open_tables(tables, resolved, note), "triplets", from_)
    versions = score.run(triplets, resolved.score, share=share, vectors=vectors, dry_run=dry_run, connect=connect)
    print_versions(versions, as_json)
