"""Options that the commands share: dataclasses that cyclopts takes apart into a command's options.

`RootOptions` is where the tables lie; `StageOptions` adds what a stage is told: recipe, overrides and note;
`IntakeOptions` is what `ingest`, `mine` and `run` read. What else several commands take is an annotated type.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from cyclopts import Parameter

from jobs.cluster import IS_RAY_JOB
from pipelines.stage.disk import check_writable
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    import polars as pl

    from jobs.recipe import Recipe
    from pipelines.storage import Invocation, Tables, TableVersion

JsonOption = Annotated[bool, Parameter("--json", help="print the result as JSON")]
BeirOption = Annotated[list[str] | None, Parameter("--beir", consume_multiple=1, help="BEIR folders to evaluate on")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RootOptions:
    """Where the tables lie."""

    tables: Annotated[
        str | None, Parameter("--tables", env_var="TABLES", help="root of the tables: a folder or s3://bucket/prefix")
    ] = None

    def open(self, invocation: "Invocation | None" = None) -> "Tables":
        """The root given with --tables or TABLES; its commits record the invocation."""
        from pipelines.storage import Invocation, Tables

        if not self.tables:
            raise UserError(
                "no root for the tables was given; expected --tables FOLDER or s3://bucket/prefix, or TABLES set"
            )
        if os.environ.get(IS_RAY_JOB) and "://" not in self.tables and not Path(self.tables).expanduser().is_absolute():
            raise UserError(
                f"tables root {self.tables} is relative: in a Ray job that is a folder which Ray removes; expected "
                "s3://bucket/prefix, or the absolute path of a folder that all nodes see"
            )
        return Tables.at(self.tables, invocation or Invocation())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StageOptions(RootOptions):
    """What a stage is told: where the tables lie, the recipe, and why it runs."""

    recipe: Annotated[str, Parameter("--recipe", help="name in jobs/recipes, or path of a TOML file")] = (
        "modernbert_small_v2"
    )
    set_: Annotated[
        list[str] | None, Parameter("--set", help="override one value, e.g. distill.epochs=1; may be repeated")
    ] = None
    note: Annotated[
        str, Parameter("--note", allow_leading_hyphen=True, help="kept in the commit of every version this writes")
    ] = ""

    def load(self, *, writes: bool = True) -> "tuple[Recipe, Tables]":
        """The recipe with its overrides, and the root whose commits record it and the note; it can be written."""
        from jobs.recipe import load_recipe
        from pipelines.storage import Invocation

        recipe = load_recipe(self.recipe, self.set_)
        tables = self.open(Invocation(recipe.model_dump(mode="json"), self.note))
        if writes:
            check_writable(tables.uri, "tables root")
        return recipe, tables


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class IntakeOptions:
    """What is read, and what is known about it."""

    input_: Annotated[list[str], Parameter("--input", consume_multiple=1, help="files or folders")]
    columns: Annotated[
        str | None, Parameter("--columns", help="which column is which, e.g. query=q,positive=doc,negative=bad")
    ] = None
    source: Annotated[
        str | None, Parameter("--source", help="name of the corpus; else the file's own, or its stem")
    ] = None
    licence: Annotated[str | None, Parameter("--licence", help="SPDX name, e.g. CC-BY-4.0")] = None

    def described(self) -> dict[str, Any]:
        """What is known about the rows, as the stages `ingest` and `mine` take it."""
        return {"columns": _parse_columns(self.columns), "source": self.source, "licence": self.licence}


def _parse_columns(text: str | None) -> dict[str, str]:
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
