"""Compare two curations: what moved, by source and reason."""

from typing import Annotated

import typer

from jobs.options import JsonOption, TablesOption, open_tables, print_frame


def main(
    before: Annotated[str, typer.Argument(help="curated_triplets@version")],
    after: Annotated[str, typer.Argument(help="curated_triplets@version")],
    tables: TablesOption = None,
    as_json: JsonOption = False,
) -> None:
    from pipelines.diff import diff

    root = open_tables(tables)
    print_frame(diff(root.parse(before), root.parse(after)), as_json)
