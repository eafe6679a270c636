"""Compare two curations: what moved, by source and reason."""

import sys
from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions, print_frame
from pipelines.stage.printable import counted


def main(
    before: Annotated[str, Parameter(help="curated_triplets@version")],
    after: Annotated[str, Parameter(help="curated_triplets@version")],
    /,
    *,
    everything: Annotated[bool, Parameter("--all", help="also the rows that stayed as they were")] = False,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    import polars as pl

    from pipelines.inspection.diff import diff

    tables = root.open()
    moved = diff(tables.parse(before), tables.parse(after))
    is_same = pl.col("before") == pl.col("after")
    stayed, changed = (int(moved.filter(which)["rows"].sum()) for which in (is_same, ~is_same))
    print(f"{counted(stayed, 'row')} stayed as before, {changed:,} moved", file=sys.stderr)
    print_frame(moved if everything else moved.filter(~is_same), as_json)
