"""Write a model as a sentence-transformers folder, with its card."""

from typing import Annotated

import typer

from jobs.options import TablesOption, open_tables


def main(
    model: Annotated[str, typer.Option("--model", help="NAME or NAME@12hex of the models table")],
    to: Annotated[str, typer.Option("--to", help="folder or s3://bucket/prefix")],
    tables: TablesOption = None,
) -> None:
    from pipelines import publish

    print(publish.run(open_tables(tables), model, to))
