"""Which version a command reads when `--from` names none: the newest complete one, and it says which it took."""

import sys
from typing import TYPE_CHECKING

from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from jobs.recipe import Recipe
    from pipelines.storage import Tables, TableVersion

MADE_BY = {"triplets": "ingest` or `mine", "scored_triplets": "score", "curated_triplets": "curate"}


def version_to_read(tables: "Tables", name: str, given: str | None) -> "TableVersion":
    """The version given, or the newest; of scored_triplets the newest that says which triplets version is complete."""
    if given is not None:
        versions = [tables.parse(printed) for printed in given.split("\n")]  # `score --vectors` prints two
        of_table = [version for version in versions if version.name == name]
        if not of_table:
            raise UserError(
                f"--from {given}: expected a version of {name}, for example {tables.latest(name) or f'{name}@0'}"
            )
        return of_table[0]
    newest = tables.latest(name)
    if newest is None:
        raise UserError(f"there is no table {name} under {tables.uri}; run `python -m jobs {MADE_BY[name]}` first")
    kind = "newest"
    if name == "scored_triplets":
        from pipelines.storage.commits import ScoringResult

        kind = "newest complete one"
        complete = (version for version, result in newest.results(ScoringResult) if result.complete)
        newest = next(complete, newest)
    print(f"from {newest} (the {kind})", file=sys.stderr)
    return newest


def newest_vectors(tables: "Tables", recipe: "Recipe") -> "TableVersion | None":
    """The newest teacher_vectors, if the objective has a term for them; distill refuses to go without."""
    return tables.latest("teacher_vectors") if recipe.distill.weights_on_teacher_vectors() else None
