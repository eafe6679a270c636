"""Do all of it: ingest (or mine) to evaluate."""

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobs.options import BeirOption, IntakeOptions, StageOptions, print_curation, print_versions

if TYPE_CHECKING:
    from jobs.recipe import Recipe
    from pipelines.evaluate import Evaluation
    from pipelines.storage import TableVersion


def main(
    *,
    name: Annotated[str, Parameter("--name", help="the model's name")],
    mine_negatives: Annotated[bool, Parameter("--mine", help="the input holds pairs: mine negatives for them")] = False,
    intake: IntakeOptions,
    beir: BeirOption = None,
    stage: StageOptions = StageOptions(),
) -> None:
    from pipelines import ingest, mine

    recipe, tables = stage.load()
    if mine_negatives:
        triplets = mine.run(tables, intake.input_, recipe.mine, **intake.described())
    else:
        triplets = ingest.run(tables, intake.input_, recipe.ingest, **intake.described())
    print_versions([triplets])
    evaluation = run_all(triplets, name, recipe, beir or [])
    print(evaluation.text())
    print_versions([evaluation.version])


def run_all(triplets: "TableVersion", name: str, recipe: "Recipe", beir: list[str]) -> "Evaluation":
    """triplets -> scored_triplets -> curated_triplets -> models -> evaluations; prints each version as it is made."""
    from jobs.cluster import connect
    from jobs.versions import newest_vectors
    from pipelines import curate, distill, evaluate, score
    from pipelines.storage.commits import ScoringResult

    needs_vectors = bool(recipe.distill.weights_on_teacher_vectors())
    scored = score.run(triplets, recipe.score, vectors=needs_vectors, connect=connect)
    print_versions(scored)
    teacher = scored[0].commit.reports(ScoringResult)
    assert teacher is not None, "score returns what a scoring committed"
    curated, counts = curate.run(scored[0], recipe.curate, teacher=teacher.teacher)
    print_curation(counts, file=sys.stderr)
    assert curated is not None, "only a dry run has no version"
    print_versions([curated])
    vectors = newest_vectors(triplets.tables, recipe)
    print_versions([distill.run(curated, recipe.distill, name=name, vectors=vectors, connect=connect)])
    return evaluate.run(triplets.tables, name, recipe.evaluate, on=curated, beir=beir)
