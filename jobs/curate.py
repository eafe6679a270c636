"""Keep, correct or drop each scored triplet, with its reason."""

import sys
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
    print_frame,
    print_versions,
)


def main(
    tables: TablesOption = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="scored_triplets@version; the newest complete one if not given")
    ] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help="whose scores; else the completed teacher's")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="curate although not all triplets are scored")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the counts by source and reason, and stop")] = False,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    from jobs.recipe import load_recipe
    from jobs.resolve import resolve
    from pipelines import curate

    resolved = load_recipe(recipe, set_)
    scored = resolve(open_tables(tables, resolved, note), "scored_triplets", from_)
    curated = curate.run(scored, resolved.curate, teacher=teacher, partial=partial, dry_run=dry_run)
    if curated.version is None:
        print_frame(curated.counts, as_json)
    else:
        print_frame(curated.counts, file=sys.stderr)
        print_versions([curated.version], as_json)
