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
DEFAULT_RECIPE = "modernbert_small_v2"


def open_tables(tables: str | None) -> "Tables":
    """The root given with --tables or TABLES."""
    from pipelines.storage import Tables

    if not tables:
        raise UserError(
            "no root for the tables was given; expected --tables FOLDER or s3://bucket/prefix, or TABLES set"
        )
    if os.environ.get(IS_RAY_JOB) and "://" not in tables and not Path(tables).expanduser().is_absolute():
        raise UserError(
            f"tables root {tables} is relative: in a Ray job that is a folder which Ray removes; expected "
            "s3://bucket/prefix, or the absolute path of a folder that all nodes see"
        )
    return Tables.at(tables)


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
    from pipelines.stage.render import frame_lines

    for line in [frame.write_json()] if as_json else frame_lines(frame):
        print(line, file=file)
