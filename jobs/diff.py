"""Compare two curations: what moved, by source and reason."""

import sys
from typing import Annotated

import typer

from jobs.options import JsonOption, TablesOption, open_tables, print_frame


def main(
    before: Annotated[str, typer.Argument(help="curated_triplets@version")],
    after: Annotated[str, typer.Argument(help="curated_triplets@version")],
    everything: Annotated[bool, typer.Option("--all", help="also the rows that stayed as they were")] = False,
    tables: TablesOption = None,
    as_json: JsonOption = False,
) -> None:
    import polars as pl

    from pipelines.inspection.diff import diff

    root = open_tables(tables)
    moved = diff(root.parse(before), root.parse(after))
    is_same = pl.col("before") == pl.col("after")
    stayed, changed = (int(moved.filter(which)["rows"].sum()) for which in (is_same, ~is_same))
    print(f"{stayed:,} rows stayed as they were, {changed:,} moved", file=sys.stderr)
    print_frame(moved if everything else moved.filter(~is_same), as_json)
