"""Make triplets of pairs (or a BEIR folder): BM25 and random negatives."""

from typing import Annotated

import typer

from jobs.options import (
    DEFAULT_RECIPE,
    ColumnsOption,
    InputOption,
    JsonOption,
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


def main(
    input_: InputOption,
    passages: Annotated[str | None, typer.Option("--passages", help="further passages to take negatives from")] = None,
    columns: ColumnsOption = None,
    source: SourceOption = None,
    licence: LicenceOption = None,
    tables: TablesOption = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    set_: SetOption = None,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    from jobs.recipe import load_recipe
    from pipelines import mine

    resolved = load_recipe(recipe, set_)
    version = mine.run(
        open_tables(tables, resolved, note),
        input_,
        resolved.mine,
        passages=passages,
        columns=parse_columns(columns),
        source=source,
        licence=licence,
    )
    print_versions([version], as_json)
