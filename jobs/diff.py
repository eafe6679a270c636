"""Compare two curations: which rules differ, and what moved, by source and reason."""

import sys
from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions, print_frame
from pipelines.stage.printable import counted, on_one_line

LONGEST_VALUE = 200  # characters of a rule, a note say


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

    from pipelines.inspection.diff import diff, rules
    from pipelines.stage.terminal import cut

    tables = root.open()
    sides = tables.parse(before), tables.parse(after)
    moved, apart = diff(*sides), rules(*sides)
    for rule, *values in apart.rows():
        was, now = ("not set" if value is None else cut(on_one_line(value), LONGEST_VALUE) for value in values)
        print(f"{rule}: {was} before, {now} after", file=sys.stderr)
    if apart.is_empty():
        print("both went by the same rules, scores and teacher", file=sys.stderr)
    is_same = pl.col("before") == pl.col("after")
    stayed, changed = (int(moved.filter(which)["rows"].sum()) for which in (is_same, ~is_same))
    print(f"{counted(stayed, 'row')} stayed as before, {changed:,} moved", file=sys.stderr)
    print_frame(moved if everything else moved.filter(~is_same), as_json)
