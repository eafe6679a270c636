"""Do all of it: ingest (or mine, or generate and mine) to evaluate.

Goes on where it stopped.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jobs.asking import STOPPED, PriceOption, with_price
from jobs.generate import told_of
from jobs.options import BeirOption, IntakeOptions, StageOptions, print_curation, print_versions
from pipelines.stage.errors import UserError
from pipelines.stage.progress import tell

if TYPE_CHECKING:
    from jobs.recipe import Recipe
    from pipelines.evaluate import Evaluation
    from pipelines.storage import Tables, TableVersion


def main(
    *,
    name: Annotated[str, Parameter("--name", help="the model's name")],
    mine_negatives: Annotated[bool, Parameter("--mine", help="the input holds pairs: mine negatives for them")] = False,
    write_queries: Annotated[
        bool, Parameter("--generate", help="the input holds passages: write queries for them, and mine negatives")
    ] = False,
    price_per_million: PriceOption = None,
    intake: IntakeOptions,
    beir: BeirOption = None,
    stage: StageOptions = StageOptions(),
) -> int:
    recipe, tables = with_price(stage, "generate", price_per_million).load()
    check_intake(recipe, mine_negatives, write_queries)
    begun = begun_from(tables, name, recipe)
    check_all(recipe, beir or [])
    check_training_stages(tables, recipe)
    closed = _has_begun(tables, name) if begun else None
    if write_queries:
        triplets = generate_and_mine(tables, intake, recipe, closed)
    else:
        triplets = take_in(tables, intake.input_, recipe, {**intake.described(), "closed": closed}, mine_negatives)
    if triplets is None:
        return STOPPED
    if begun:
        tell(f"going on with {name}, which was begun with {begun}")
    else:
        print_versions([triplets])
    evaluation = train_all(begun, name, recipe, beir or []) if begun else run_all(triplets, name, recipe, beir or [])
    print(evaluation.text())
    print_versions([evaluation.version])
    return 0


def check_intake(recipe: "Recipe", mine_negatives: bool, write_queries: bool) -> None:
    """What the first stages need, before any of them begins. Raises UserError."""
    from pipelines.asking.endpoint import check_can_ask

    if mine_negatives and write_queries:
        raise UserError("--generate mines negatives, too; expected it or --mine")
    if mine_negatives or write_queries:
        recipe.mine.encoder_config(recipe.score)
    if write_queries:
        check_can_ask(recipe.generate.ranked_by(recipe.score))


def generate_and_mine(
    tables: "Tables", intake: IntakeOptions, recipe: "Recipe", closed: str | None
) -> "TableVersion | None":
    """passages -> generated_queries -> triplets; None where the budget ended it."""
    from pipelines import generate

    config = recipe.generate.ranked_by(recipe.score)
    generation = generate.run(tables, intake.input_, config, told=told_of(intake), closed=closed)
    if generation.version and not closed:
        print_versions([generation.version])
    if generation.left or generation.version is None:
        return None
    return take_in(tables, [str(generation.version)], recipe, {"closed": closed}, mine_negatives=True)


def take_in(
    tables: "Tables", inputs: list[str], recipe: "Recipe", told: dict[str, Any], mine_negatives: bool
) -> "TableVersion":
    """Files, or generated queries, to triplets."""
    from jobs.cluster import connect
    from pipelines import ingest, mine

    if not mine_negatives:
        return ingest.run(tables, inputs, recipe.ingest, **told)
    encoder = recipe.mine.encoder_config(recipe.score)
    return mine.run(tables, inputs, recipe.mine, encoder=encoder, connect=connect, **told)


def begun_from(tables: "Tables", name: str, recipe: "Recipe") -> "TableVersion | None":
    """The curated version that an interrupted run of this very recipe had begun to train NAME from; None if none had.

    Raises:
        UserError: NAME was begun otherwise.
    """
    from jobs.recipe import is_of
    from pipelines.checkpoints.run_folder import IDENTITY, RunFolder
    from pipelines.storage.commits import Input

    folder = RunFolder(tables, name)
    if not folder.has_trained():
        return None
    identity = folder.read(IDENTITY)
    curated = tables.recorded(Input(**identity["curated"])).usable() if identity else None
    if curated is None or not is_of(curated.commit.recipe, recipe):
        raise UserError(_has_begun(tables, name))
    return curated


def _has_begun(tables: "Tables", name: str) -> str:
    return (
        f"there is a model {name} under {tables.uri}, of other data or another recipe; choose another --name, or go on "
        f"with it: python -m jobs distill --name {name} --from curated_triplets@VERSION"
    )


def check_all(recipe: "Recipe", beir: list[str]) -> None:
    """What a later stage would refuse after hours of the earlier ones, as far as the recipe and its models tell it."""
    from jobs import cluster
    from pipelines.checkpoints.find import find
    from pipelines.checkpoints.inspect import vector_width
    from pipelines.intake.beir import read_beir
    from pipelines.students.checks import check_source
    from pipelines.students.data.teacher_vectors import check_teacher
    from pipelines.students.training.sinks import find_sink
    from pipelines.teachers.config import name_teacher

    cluster.check(**recipe.score.claims())
    cluster.check(**recipe.distill.claims())
    if not beir and not recipe.curate.test_share:
        raise UserError("curate.test_share is 0 and there is no --beir: nothing to evaluate on; give one of them")
    versions = [stage.curated_version for stage in recipe.distill.stages] or [None]
    stages = zip(recipe.distill.training_stages(), versions, strict=True)
    if not recipe.curate.dev_share and any(one.dev_every_steps and version is None for one, version in stages):
        raise UserError(
            "distill.dev_every_steps needs dev queries, and curate.dev_share is 0; raise it, or leave it out"
        )
    if recipe.distill.sink is not None:
        find_sink(recipe.distill.sink)
    for folder in (*beir, *recipe.curate.evaluation_sets):
        read_beir(folder)
    source = check_source(recipe.distill)
    teachers = [name_teacher(choice) for choice in recipe.score.choices()]
    for stage in recipe.distill.training_stages():
        if weights := stage.weights_on_teacher_vectors():
            if recipe.score.teacher_kind != "bi_encoder":
                raise UserError(
                    f"distill.{next(iter(weights))} needs a bi-encoder teacher's vectors, found "
                    f"{recipe.score.teacher_kind} {recipe.score.teacher}"
                )
            width = vector_width(find(recipe.score.teacher, recipe.score.teacher_revision))
            named = stage.named_vectors_teachers()
            teacher = next((one for one in teachers if one in named), teachers[0])
            check_teacher(stage, teacher, width, source.student_width(recipe.distill))


def check_training_stages(tables: "Tables", recipe: "Recipe") -> None:
    """Refuse training stages on versions that are not there, and a curation that no stage would train on."""
    from pipelines.storage import TableVersion

    numbers = [stage.curated_version for stage in recipe.distill.stages]
    if numbers and None not in numbers:
        raise UserError(
            "no training stage takes what `run` curates: each names another version (curated_version); leave it out of "
            "one of them, or train by `python -m jobs distill`"
        )
    for number in numbers:
        if number is not None:
            tables.parse(str(TableVersion(tables, "curated_triplets", number))).usable()


def run_all(triplets: "TableVersion", name: str, recipe: "Recipe", beir: list[str]) -> "Evaluation":
    """triplets -> scored_triplets -> curated_triplets -> models -> evaluations; prints each version as it is made."""
    from jobs.cluster import connect
    from pipelines import curate, score
    from pipelines.curation.held_out import held_out_query_ids
    from pipelines.storage.commits import ScoringResult

    scored = score.run(triplets, recipe.score, vectors=recipe.distill.needs_vectors(), connect=connect)
    print_versions(scored)
    teacher = scored[0].commit.reports(ScoringResult)
    assert teacher is not None, "score returns what a scoring committed"
    curated, counts, _ = curate.run(scored[0], recipe.curate, teacher=teacher.teacher)
    print_curation(counts, file=sys.stderr)
    assert curated is not None, "only a dry run has no version"
    print_versions([curated])
    if not beir and held_out_query_ids(curated).is_empty():
        raise UserError(f"{curated} has no query in its test split: raise curate.test_share, or give --beir DIR")
    return train_all(curated, name, recipe, beir)


def train_all(curated: "TableVersion", name: str, recipe: "Recipe", beir: list[str]) -> "Evaluation":
    """curated_triplets -> models -> evaluations; a training that was interrupted goes on."""
    from jobs.cluster import connect
    from jobs.versions import newest_vectors
    from pipelines import distill, evaluate, score

    if recipe.score.varied_copies and any(stage.data == "texts" for stage in recipe.distill.training_stages()):
        print_versions(score.run_varied(curated, recipe.score, connect=connect))
    vectors = newest_vectors(curated.tables, recipe)
    print_versions([distill.run(curated, recipe.distill, name=name, vectors=vectors, connect=connect)])
    return evaluate.run(curated.tables, name, recipe.evaluate, on=curated, beir=beir)
