"""Ask the tables in SQL, with Polars."""

from collections.abc import Callable
from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions, print_frame
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of


def main(
    sql: Annotated[str, Parameter(help='e.g. "SELECT source, COUNT(*) AS rows FROM triplets GROUP BY source"')],
    /,
    *,
    at: Annotated[list[str] | None, Parameter("--at", help="TABLE@VERSION to read; may be repeated")] = None,
    output: Annotated[str | None, Parameter("--output", help="write .parquet, .csv, .jsonl instead")] = None,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    from pipelines.inspection.queries import ask

    frame = ask(root.open(), sql, at or ())
    if output is None:
        print_frame(frame, as_json)
    else:
        writers: dict[str, Callable[[str], object]] = {
            ".parquet": frame.write_parquet,
            ".csv": frame.write_csv,
            ".jsonl": frame.write_ndjson,
        }
        path = path_of(output, "--output")
        write = writers.get(path.suffix)
        if write is None:
            raise UserError(f"--output {output}: expected a file ending in .parquet, .csv or .jsonl")
        write(output if output.startswith("s3://") else str(path.absolute()))
        print(output)
