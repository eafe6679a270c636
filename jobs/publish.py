"""Write a model as a sentence-transformers folder, with its card."""

from typing import Annotated

from cyclopts import Parameter

from jobs.options import RootOptions


def main(
    *,
    model: Annotated[str, Parameter("--model", help="NAME or NAME@12hex of the models table")],
    to: Annotated[str, Parameter("--to", help="folder or s3://bucket/prefix")],
    root: RootOptions = RootOptions(),
) -> None:
    from pipelines import publish

    print(publish.run(root.open(), model, to))
