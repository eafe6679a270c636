"""Do all of it: ingest (or mine) to evaluate."""

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobs.options import BeirOption, IntakeOptions, StageOptions, print_curation, print_versions
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from jobs.recipe import Recipe
    from pipelines.evaluate import Evaluation
    from pipelines.storage import Tables, TableVersion

INTERRUPTED = (
    "interrupted; the same command goes on from the last commit; once a curated_triplets@V was printed and training "
    "has begun: python -m jobs distill --from curated_triplets@V --name NAME (with the same --tables, --recipe, --set)"
)


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
    check_all(tables, name, recipe, beir or [])
    if mine_negatives:
        triplets = mine.run(tables, intake.input_, recipe.mine, **intake.described())
    else:
        triplets = ingest.run(tables, intake.input_, recipe.ingest, **intake.described())
    print_versions([triplets])
    evaluation = run_all(triplets, name, recipe, beir or [])
    print(evaluation.text())
    print_versions([evaluation.version])


def check_all(tables: "Tables", name: str, recipe: "Recipe", beir: list[str]) -> None:
    """What a later stage would refuse after hours of the earlier ones, as far as the recipe and its models tell it."""
    from jobs import cluster
    from pipelines import distill
    from pipelines.checkpoints.find import find
    from pipelines.checkpoints.inspect import vector_width
    from pipelines.checkpoints.run_folder import RunFolder
    from pipelines.intake.beir import read_beir
    from pipelines.students.data.teacher_vectors import check_teacher
    from pipelines.teachers.config import name_teacher

    cluster.check(**recipe.score.claims())
    cluster.check(**recipe.distill.claims())
    if RunFolder(tables, name).has_trained():
        raise UserError(
            f"there is a model {name} under {tables.uri}, of data that is curated already; choose another --name, or "
            f"go on with it: python -m jobs distill --name {name} --from curated_triplets@VERSION"
        )
    if not beir and not recipe.curate.test_share:
        raise UserError("curate.test_share is 0 and there is no --beir: nothing to evaluate on; give one of them")
    for folder in (*beir, *recipe.curate.evaluation_sets):
        read_beir(folder)
    source = distill.check_source(recipe.distill)
    teacher = name_teacher(recipe.score)
    if weights := recipe.distill.weights_on_teacher_vectors():
        if recipe.score.teacher_kind != "bi_encoder":
            raise UserError(
                f"distill.{next(iter(weights))} needs a bi-encoder teacher's vectors, found "
                f"{recipe.score.teacher_kind} {recipe.score.teacher}"
            )
        width = vector_width(find(recipe.score.teacher, recipe.score.teacher_revision))
        check_teacher(recipe.distill, teacher, width, source.width)


def run_all(triplets: "TableVersion", name: str, recipe: "Recipe", beir: list[str]) -> "Evaluation":
    """triplets -> scored_triplets -> curated_triplets -> models -> evaluations; prints each version as it is made."""
    from jobs.cluster import connect
    from jobs.versions import newest_vectors
    from pipelines import curate, distill, evaluate, score
    from pipelines.evaluation.evaluation_sets import test_query_ids
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
    if not beir and test_query_ids(curated).is_empty():
        raise UserError(f"{curated} has no query in its test split: raise curate.test_share, or give --beir DIR")
    vectors = newest_vectors(triplets.tables, recipe)
    print_versions([distill.run(curated, recipe.distill, name=name, vectors=vectors, connect=connect)])
    return evaluate.run(triplets.tables, name, recipe.evaluate, on=curated, beir=beir)
