"""Read files of triplets into the triplets table.

JSON Lines, CSV, TSV, Parquet, or a folder of these; told by content and columns.
"""

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
    from pipelines import ingest

    resolved = load_recipe(recipe, set_)
    version = ingest.run(
        open_tables(tables, resolved, note),
        input_,
        resolved.ingest,
        columns=parse_columns(columns),
        source=source,
        licence=licence,
    )
    print_versions([version], as_json)
