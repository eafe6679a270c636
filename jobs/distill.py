"""Train a student on the curated triplets.

Goes on where it stopped.
"""

from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, StageOptions, print_versions


def main(
    *,
    name: Annotated[str, Parameter("--name", help="the model's name")],
    from_: Annotated[str | None, Parameter("--from", help="curated_triplets@version; the newest if not given")] = None,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    from jobs.cluster import check, connect
    from jobs.versions import curation_to_train_on, newest_vectors
    from pipelines import distill

    recipe, tables = stage.load()
    check(**recipe.distill.claims())
    curated = curation_to_train_on(tables, from_, recipe)
    vectors = newest_vectors(tables, recipe)
    version = distill.run(curated, recipe.distill, name=name, vectors=vectors, connect=connect)
    print_versions([version], as_json)
