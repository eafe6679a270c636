"""Score every query/passage pair with the recipe's teacher.

Goes on where it stopped; several may run at once.
"""

from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, StageOptions, plain_number, print_versions


def main(
    *,
    from_: Annotated[str | None, Parameter("--from", help="triplets@version; the newest if not given")] = None,
    share: Annotated[
        float, Parameter("--share", converter=plain_number, help="part of the queries to score, e.g. 0.01")
    ] = 1.0,
    dry_run: Annotated[bool, Parameter("--dry-run", help="say what would be scored, and stop")] = False,
    vectors: Annotated[bool, Parameter("--vectors", help="also store a bi-encoder's vector of each text")] = False,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    from jobs.cluster import check, connect
    from jobs.versions import version_to_read
    from pipelines import score

    recipe, tables = stage.load(writes=not dry_run)
    if not dry_run:
        check(**recipe.score.claims())
    triplets = version_to_read(tables, "triplets", from_)
    versions = score.run(triplets, recipe.score, share=share, vectors=vectors, dry_run=dry_run, connect=connect)
    print_versions(versions, as_json)
