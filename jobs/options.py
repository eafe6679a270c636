"""Options that the commands share, and what they stand for."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from jobs.cluster import IS_RAY_JOB
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    import polars as pl

    from jobs.recipe import Recipe
    from pipelines.storage import Tables, TableVersion

TablesOption = Annotated[
    str | None, typer.Option("--tables", envvar="TABLES", help="root of the tables: a folder or s3://bucket/prefix")
]
RecipeOption = Annotated[str, typer.Option("--recipe", help="name in jobs/recipes, or path of a TOML file")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="override one value, e.g. distill.epochs=1; may be repeated")
]
NoteOption = Annotated[str, typer.Option("--note", help="kept in the commit of every version this writes")]
JsonOption = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
BeirOption = Annotated[list[str] | None, typer.Option("--beir", help="BEIR folders to evaluate on")]
InputOption = Annotated[list[str], typer.Option("--input", help="files or folders")]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="name of the corpus; else the file's own, or its stem")
]
LicenceOption = Annotated[str | None, typer.Option("--licence", help="SPDX name, e.g. CC-BY-4.0")]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", help="which column is which, e.g. query=q,positive=doc,negative=bad")
]
MOST_COLUMNS_IN_TABLE = 10
DEFAULT_RECIPE = "modernbert_small_v2"


def open_tables(tables: str | None, recipe: "Recipe | None" = None, note: str = "") -> "Tables":
    """The root given with --tables or TABLES; recipe and note go into every commit made there."""
    from pipelines.storage import Invocation, Tables

    if not tables:
        raise UserError(
            "no root for the tables was given; expected --tables FOLDER or s3://bucket/prefix, or TABLES set"
        )
    if os.environ.get(IS_RAY_JOB) and "://" not in tables and not Path(tables).expanduser().is_absolute():
        raise UserError(
            f"tables root {tables} is relative: in a Ray job that is a folder which Ray removes; expected "
            "s3://bucket/prefix, or the absolute path of a folder that all nodes see"
        )
    return Tables.at(tables, Invocation(recipe.model_dump(mode="json") if recipe else None, note))


def parse_columns(text: str | None) -> dict[str, str]:
    """`query=q,positive=doc` as a dict. Raises UserError on anything else."""
    pairs = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    if any(not equals or not name.strip() or not column.strip() for name, equals, column in pairs):
        raise UserError(f"--columns {text!r}: expected name=column pairs like query=q,positive=doc,negative=bad")
    return {name.strip(): column.strip() for name, _, column in pairs}


def print_versions(versions: "list[TableVersion]", as_json: bool = False, file: TextIO | None = None) -> None:
    """One `table@version` a line, or one JSON object."""
    if as_json:
        print(json.dumps({version.name: str(version) for version in versions}), file=file)
    for version in () if as_json else versions:
        print(version, file=file, flush=True)


def print_frame(frame: "pl.DataFrame", as_json: bool = False, file: TextIO | None = None) -> None:
    """All rows of a frame as a plain table, one value a line where it has many columns, or as JSON rows."""
    import polars as pl

    if as_json:
        print(frame.write_json(), file=file)
        return
    if frame.width > MOST_COLUMNS_IN_TABLE:
        for number, row in enumerate(frame.iter_rows(named=True), 1):
            print(f"-- row {number}", file=file)
            for name, value in row.items():
                text = " ".join(str(value).split())
                print(f"{name:<24} {text if len(text) <= 120 else text[:119] + '…'}", file=file)
        return
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=200,
        fmt_str_lengths=80,
        fmt_table_cell_list_len=-1,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        tbl_formatting="ASCII_MARKDOWN",
        thousands_separator=",",
    ):
        print(frame, file=file)
