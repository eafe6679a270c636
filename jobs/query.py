"""Ask the tables in SQL, with Polars."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.options import JsonOption, TablesOption, open_tables, print_frame
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    import polars as pl


def main(
    sql: Annotated[str, typer.Argument(help='e.g. "SELECT source, COUNT(*) AS rows FROM triplets GROUP BY source"')],
    at: Annotated[list[str] | None, typer.Option("--at", help="TABLE@VERSION to read; may be repeated")] = None,
    output: Annotated[str | None, typer.Option("--output", help="write .parquet, .csv, .jsonl instead")] = None,
    tables: TablesOption = None,
    as_json: JsonOption = False,
) -> None:
    import polars as pl

    root = open_tables(tables)
    versions = {name: version for name in root.names() if (version := root.latest(name)) is not None}
    versions |= {version.name: version for version in map(root.parse, at or ())}
    if not versions:
        raise UserError(f"there is no table under {root.uri}; is --tables (or TABLES) the right root?")
    if match := re.match(r"\s*(delete|drop|truncate|update|insert|create|alter|merge)\b", sql, re.IGNORECASE):
        raise UserError(f"{match[1].upper()} would change a table, and query only reads; expected a SELECT")
    context = pl.SQLContext({name: version.scan() for name, version in versions.items()})
    try:
        frame = context.execute(sql).collect(engine="streaming")
    except (pl.exceptions.PolarsError, ValueError) as error:
        columns = "; ".join(f"{name}({', '.join(version.columns())})" for name, version in versions.items())
        raise UserError(f"the query failed: {str(error).splitlines()[0]}; the tables are {columns}") from error
    if output is None:
        print_frame(frame, as_json)
    else:
        _write(frame, output)


def _write(frame: "pl.DataFrame", output: str) -> None:
    if output.endswith(".parquet"):
        frame.write_parquet(output)
    elif output.endswith(".csv"):
        frame.write_csv(output)
    elif output.endswith(".jsonl"):
        frame.write_ndjson(output)
    else:
        raise UserError(f"--output {output}: expected a file ending in .parquet, .csv or .jsonl")
    print(output)
