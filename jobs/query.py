"""Ask the tables, and nothing beside them, in SQL, with Polars.

On a terminal the answer fits its width, and what is longer than the screen is shown by $PAGER (PAGER=cat: by none).
"""

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions, print_frame
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of

if TYPE_CHECKING:
    import polars as pl

INTERRUPTED = "interrupted; nothing was written, and the same command asks again"
MOST_ROWS = 2**32 - 1
ENDINGS = (".parquet", ".csv", ".jsonl")


def main(
    sql: Annotated[str, Parameter(help='e.g. "SELECT source, COUNT(*) AS rows FROM triplets GROUP BY source"')],
    /,
    *,
    at: Annotated[list[str] | None, Parameter("--at", help="TABLE@VERSION to read; may be repeated")] = None,
    output: Annotated[
        str | None, Parameter("--output", help="write a new .parquet, .csv (lists as JSON) or .jsonl file instead")
    ] = None,
    limit: Annotated[int | None, Parameter("--limit", help="the first so many rows of the answer")] = None,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    from pipelines.inspection.queries import ask

    if output is not None and as_json:
        raise UserError("--json prints the answer and --output writes it; expected one of the two")
    if limit is not None and not 1 <= limit <= MOST_ROWS:
        raise UserError(f"--limit {limit}: expected 1 to {MOST_ROWS} rows, or leave it out for all")
    path = _new_file(output) if output is not None else None
    frame = ask(root.open(), sql, at or (), limit)
    with_bytes = [name for name, dtype in frame.schema.items() if "Binary" in str(dtype)]
    if with_bytes and (as_json or (output and not output.endswith(".parquet"))):
        raise UserError(
            f"{', '.join(with_bytes)}: bytes, which neither JSON nor CSV can hold; expected text, or .parquet"
        )
    with _values_that_can_be_told():
        if output is not None and path is not None:
            _write(frame, output, path)
        else:
            print_frame(frame, as_json, paged=True)
    if output is not None:
        print(output)
    elif frame.is_empty():
        print("0 rows", file=sys.stderr)


@contextmanager
def _values_that_can_be_told() -> Iterator[None]:
    """Polars has values that a form or Python lacks: a duration in CSV, the year 148,108."""
    import polars as pl

    try:
        yield
    except (ValueError, OverflowError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        told = str(error).partition("\n")[0]
        if system := re.search(r"\(os error ([0-9]+)\)", told):  # Polars' own, as of a full disk
            raise OSError(int(system[1]), told) from error
        raise UserError(
            f"a value of the answer has no form here ({told}); expected CAST(it AS TEXT), or .parquet"
        ) from error


def _new_file(output: str) -> Path:
    """Where the answer goes is known before it is asked for."""
    path = path_of(output, "--output")
    if path.suffix not in ENDINGS:
        raise UserError(f"--output {output}: expected a file ending in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if output.startswith("s3://"):
        return path
    if path.exists() or path.is_symlink():
        found = "a folder" if path.is_dir() else "there already"
        raise UserError(f"--output {output} is {found}; expected the name of a new file: remove it, or give another")
    if not path.parent.is_dir():
        raise UserError(f"--output {output}: {path.parent} is no folder; make it first, or give another name")
    return path


def _write(frame: "pl.DataFrame", output: str, path: Path) -> None:
    """The whole file or none."""
    write: dict[str, Callable[[str], object]] = {
        ".parquet": frame.write_parquet,
        ".csv": lambda file: _flat(frame).write_csv(file),
        ".jsonl": frame.write_ndjson,
    }
    if output.startswith("s3://"):
        write[path.suffix](output)
        return
    with tempfile.TemporaryDirectory(prefix=".query-", dir=path.parent) as folder:
        whole = Path(folder, "answer").absolute()
        write[path.suffix](str(whole))
        whole.rename(path)


def _flat(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Lists and structs as JSON text: CSV has no other form for them."""
    import polars as pl

    for column in (column for column in frame if column.dtype.is_nested()):
        texts = [None if v is None else json.dumps(v, ensure_ascii=False, default=str) for v in column.to_list()]
        frame = frame.with_columns(pl.Series(column.name, texts, dtype=pl.String))
    return frame
