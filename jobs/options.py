"""Options that the commands share: dataclasses that cyclopts takes apart into a command's options.

`RootOptions` is where the tables lie; `StageOptions` adds what a stage is told: recipe, overrides and note;
`IntakeOptions` is what `ingest`, `mine` and `run` read. What else several commands take is an annotated type.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

from cyclopts import Parameter, Token

from jobs.cluster import IS_RAY_JOB
from pipelines.stage.disk import check_writable
from pipelines.stage.errors import UserError
from pipelines.stage.printable import counted
from pipelines.stage.terminal import can_print, print_paged, width_of

if TYPE_CHECKING:
    import polars as pl

    from jobs.recipe import Recipe
    from pipelines.storage import Invocation, Tables, TableVersion

DEFAULT_RECIPE = "modernbert_small_v2"
WORST_SOURCES = 20
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
FromScoresOption = Annotated[
    str | None, Parameter("--from", help="scored_triplets@version; the newest complete one if not given")
]
TeacherOption = Annotated[str | None, Parameter("--teacher", help="whose scores; else those of the recipe's teacher")]
JsonOption = Annotated[bool, Parameter("--json", help="print the result as JSON")]
BeirOption = Annotated[list[str] | None, Parameter("--beir", consume_multiple=1, help="BEIR folders to evaluate on")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RootOptions:
    """Where the tables lie."""

    tables: Annotated[
        str | None, Parameter("--tables", env_var="TABLES", help="root of the tables: a folder or s3://bucket/prefix")
    ] = None

    def open(self, invocation: "Invocation | None" = None, *, answers: bool = True) -> "Tables":
        """The root given with --tables or TABLES; its commits record the invocation. `answers`: ask it first."""
        from pipelines.storage import Invocation, Tables

        if not self.tables:
            raise UserError(
                "no root for the tables was given; expected --tables FOLDER or s3://bucket/prefix, or TABLES set"
            )
        if os.environ.get(IS_RAY_JOB) and "://" not in self.tables and not self.tables.startswith(("/", "~")):
            raise UserError(
                f"tables root {self.tables} is relative: in a Ray job that is a folder which Ray removes; expected "
                "s3://bucket/prefix, or the absolute path of a folder that all nodes see"
            )
        tables = Tables.at(self.tables, invocation or Invocation())
        return tables.answering() if answers else tables


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StageOptions(RootOptions):
    """What a stage is told: where the tables lie, the recipe, and why it runs."""

    recipe: Annotated[str, Parameter("--recipe", help="name in jobs/recipes, or path of a TOML file")] = DEFAULT_RECIPE
    set_: Annotated[
        list[str] | None, Parameter("--set", help="override one value, e.g. distill.epochs=1; may be repeated")
    ] = None
    note: Annotated[
        str, Parameter("--note", allow_leading_hyphen=True, help="kept in the commit of every version this writes")
    ] = ""

    def load(self, *, writes: bool = True, answers: bool = True) -> "tuple[Recipe, Tables]":
        """The recipe with its overrides, and the root whose commits record it and the note.

        `writes`: it can be written; `answers`: it is asked whether it answers. Raises UserError or OSError otherwise.
        """
        from jobs.recipe import load_recipe
        from pipelines.storage import Invocation

        recipe = load_recipe(self.recipe, self.set_)
        tables = self.open(Invocation(recipe.model_dump(mode="json"), self.note), answers=answers)
        if writes:
            check_writable(tables.uri, "tables root")
        return recipe, tables


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class IntakeOptions:
    """What is read, and what is known about it."""

    input_: Annotated[list[str], Parameter("--input", consume_multiple=1, help="files, folders, Delta tables")]
    columns: Annotated[
        str | None,
        Parameter(
            "--columns",
            help="which column is which, e.g. query=q,positive=doc,negative=bad; as JSON for names with commas or "
            'spaces: \'{"query": "a, b"}\'',
        ),
    ] = None
    quoting: Annotated[
        Literal["minimal", "none"] | None,
        Parameter(
            "--quoting", help="of CSV and TSV: minimal if fields may stand in quotes, none if a quote is a character"
        ),
    ] = None
    source: Annotated[
        str | None, Parameter("--source", help="name of the corpus; else the rows' own, or the file's or folder's")
    ] = None
    licence: Annotated[str | None, Parameter("--licence", help="SPDX name, e.g. CC-BY-4.0")] = None

    def described(self) -> dict[str, Any]:
        """What is known about the rows, as the stages `ingest` and `mine` take it."""
        for option, given in (("--source", self.source), ("--licence", self.licence)):
            if given is not None and not given.strip():
                raise UserError(f"{option} {given!r} says nothing; expected a name, or leave it out")
        columns = parse_columns(self.columns)
        return {"columns": columns, "quoting": self.quoting, "source": self.source, "licence": self.licence}


def plain_number(_: Any, tokens: Sequence[Token]) -> float:
    """A converter of options. Python's own also takes nan, 1_0 and the digits of every script."""
    if not NUMBER.fullmatch(tokens[0].value):
        raise ValueError("not a number")
    return float(tokens[0].value)


def parse_columns(text: str | None) -> dict[str, str]:
    """`query=q,positive=doc` or a JSON object as a dict. Raises UserError on anything else."""
    if text is None:
        return {}
    pairs: list[Any] = [tuple(map(str.strip, part.split("=", 1))) for part in text.split(",") if part.strip()]
    if text.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            pairs = json.loads(text, object_pairs_hook=list)
    if not pairs or not all(
        len(pair) == 2 and all(isinstance(name, str) and name.strip() for name in pair) for pair in pairs
    ):
        raise UserError(
            f"--columns {text!r}: expected name=column pairs like query=q,positive=doc,negative=bad, or JSON where a "
            'column\'s name holds a comma or spaces: \'{"query": "a, b"}\''
        )
    columns: dict[str, str] = dict(pairs)
    if len(columns) < len(pairs):
        raise UserError(f"--columns {text!r}: names a role twice, expected one column for each")
    return columns


def print_versions(versions: "list[TableVersion]", as_json: bool = False, file: TextIO | None = None) -> None:
    """One `table@version` a line, or one JSON object."""
    if as_json:
        print(json.dumps({version.name: str(version) for version in versions}), file=file)
    for version in () if as_json else versions:
        print(version, file=file, flush=True)


def print_frame(frame: "pl.DataFrame", as_json: bool = False, file: TextIO | None = None, paged: bool = False) -> None:
    """All rows of a frame as a plain table, one value a line where it has many columns, or as JSON rows.

    `paged`: through a pager, where they are for a terminal that they do not fit.
    """
    from pipelines.stage.render import frame_lines

    stream = file or sys.stdout
    if paged and not as_json:
        return print_paged(frame_lines(frame, width_of(stream)), stream)
    for line in [_for(stream, frame.write_json())] if as_json else frame_lines(frame, width_of(stream)):
        print(line, file=stream)


def print_curation(
    counts: "pl.DataFrame",
    by: str | None = None,
    as_json: bool = False,
    file: TextIO | None = None,
    whole: "pl.DataFrame | None" = None,
) -> None:
    """What a curation did: a line a source, worst first, or one a reason; as JSON always the counts by reason.

    On a terminal the lines fit, with bars where there is room, and are WORST_SOURCES unless `by` is given.

    Args:
        whole: of a curation of a part, what all triplets would come to: instead of the line a source, in JSON beside.
    """
    from pipelines.curation.outcomes import by_source
    from pipelines.stage.render import BAR, curation_lines, whole_lines

    stream = file or sys.stdout
    if as_json and whole is not None:
        both = f'{{"counts": {counts.write_json()}, "whole": {whole.write_json()}}}'
        return print(_for(stream, both), file=stream)
    if as_json or by == "reason":
        return print_frame(counts, as_json, file)
    sources, width = by_source(counts), width_of(stream)
    if whole is not None:
        reasons = dict(sources.select("source", "main_reason").iter_rows())
        lines = whole_lines(whole, reasons, width)
        shown = lines if by or width is None else lines[: 1 + WORST_SOURCES]
        more = [f"and {counted(len(lines) - len(shown), 'more source')}; --by source tells of all"]
        return print(*shown, *(more if len(shown) < len(lines) else []), sep="\n", file=stream)
    worst = sources if by or width is None else sources.head(WORST_SOURCES)
    for line in curation_lines(worst, width, with_bars=can_print(stream, BAR)):
        print(line, file=stream)
    if left := len(sources) - len(worst):
        least = worst["kept"][-1] / worst["rows"][-1]
        print(f"and {counted(left, 'more source')} with at least {least:.1%} kept; --by source counts all", file=stream)


def _for(stream: TextIO, text: str) -> str:
    """JSON that the stream's encoding can hold: what it lacks, which is within strings, as JSON escapes it."""
    return text if can_print(stream, text) else re.sub(r"[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], text)
