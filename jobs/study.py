"""Compare recipes: train each arm of a study with each seed, measure all, and answer its questions.

Goes on where it stopped.
"""

import json
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobs.options import BeirOption, JsonOption, RootOptions, print_frame
from pipelines.stage.disk import check_writable
from pipelines.stage.errors import UserError
from pipelines.stage.printable import counted

if TYPE_CHECKING:
    import polars as pl

    from jobs.studies import Arm, Loaded
    from pipelines.storage import Tables


def main(
    study: Annotated[str, Parameter(help="name in jobs/recipes/studies, or path of a TOML file")],
    /,
    *,
    beir: BeirOption = None,
    from_: Annotated[
        str | None,
        Parameter(
            "--from", help="scored_triplets@V that arms are curated from, or curated_triplets@V; else the newest"
        ),
    ] = None,
    roots: Annotated[
        list[str] | None, Parameter("--root", help="NAME=FOLDER: where arms with that root have their tables")
    ] = None,
    set_: Annotated[
        list[str] | None, Parameter("--set", help="override a value of all arms, e.g. evaluate.max_test_queries=100")
    ] = None,
    note: Annotated[
        str, Parameter("--note", allow_leading_hyphen=True, help="kept in the commit of every version this writes")
    ] = "",
    dry_run: Annotated[bool, Parameter("--dry-run", help="print the models there would be, and stop")] = False,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    from jobs.studies import load_study

    loaded = load_study(study, set_)
    tables = _tables_of_arms(loaded, root, roots or [], note)
    if dry_run:
        return print_frame(plan(loaded, tables), as_json)
    from jobs.arms import Measurements, Models, arms_to_train, curated_of

    to_train = arms_to_train(loaded, tables)
    given = {arm.name: arm.curated or (None if arm.root else from_) for arm in loaded.study.arms}
    check_data(loaded, given, beir or [])
    check_training(loaded, tables, to_train)
    curated = {arm.name: curated_of(loaded, arm, tables[arm.name], given[arm.name]) for arm in loaded.study.arms}
    models = Models(loaded, curated)
    models.check(to_train)
    models.train_all()
    measurements = Measurements(models, beir or [])
    print_results(loaded, models.costs(), measurements.values(measurements.measure_all()), as_json)


def plan(loaded: "Loaded", tables: "dict[str, Tables]") -> "pl.DataFrame":
    """The study's models with their steps, as far as these are known, and which are there."""
    import polars as pl

    from jobs.arms import steps_within
    from pipelines.checkpoints.run_folder import RUN, RunFolder

    study, rows = loaded.study, []
    calibrations = [(loaded.calibration_name(arm), arm, "calibration", study.seeds[0]) for arm in study.arms]
    for name, arm, budget, seed in [*(calibrations if study.max_seconds else ()), *loaded.runs()]:
        folder = RunFolder(tables[arm.name], name)
        told = folder.read(RUN)
        steps = {"steps": study.max_steps, "calibration": study.calibration_steps}.get(budget)
        if budget == "time" and study.max_seconds:
            calibration = RunFolder(tables[arm.name], loaded.calibration_name(arm)).read(RUN)
            steps = steps_within(study.max_seconds, calibration) if calibration else None
        state = "trained" if told else "begun" if folder.has_trained() else "to be trained"
        rows.append((name, arm.name, budget, seed, steps, state))
    columns = {"model": pl.String, "arm": pl.String, "budget": pl.String, "seed": pl.Int64, "steps": pl.Int64}
    frame = pl.DataFrame(rows, schema=columns | {"state": pl.String}, orient="row")
    counts = ", ".join(f"{count} {state}" for state, count in frame["state"].value_counts(sort=True).iter_rows())
    print(f"study {loaded.name}: {counted(len(frame), 'model')}: {counts}", file=sys.stderr)
    return frame


def check_data(loaded: "Loaded", given: "dict[str, str | None]", beir: list[str]) -> None:
    """Refuse data that cannot be: a curated version for an arm that curates, or nothing to evaluate on."""
    from jobs.arms import CURATED
    from pipelines.intake.beir import read_beir

    for arm in loaded.study.arms:
        version = given[arm.name] or ""
        if arm.curate and version.startswith(CURATED):
            raise UserError(
                f"arm {arm.name} has its own [curate], so {version} cannot be its data; expected --from "
                "scored_triplets@VERSION, or no --from"
            )
        if not beir and not loaded.recipe_of(arm).curate.test_share:
            raise UserError("curate.test_share is 0 and there is no --beir: nothing to evaluate on; give one of them")
    for folder in beir:
        read_beir(folder)


def check_training(loaded: "Loaded", tables: "dict[str, Tables]", to_train: "list[Arm]") -> None:
    """What a training would be refused for after hours of others, as far as recipes and models tell it."""
    from jobs import cluster
    from pipelines.students.checks import check_source

    for arm in loaded.study.arms:
        check_writable(tables[arm.name].uri, f"tables root of arm {arm.name}")
    for arm in to_train:
        recipe = loaded.recipe_of(arm)
        cluster.check(**recipe.distill.claims())
        check_source(recipe.distill)


def print_results(loaded: "Loaded", costs: "pl.DataFrame", values: "pl.DataFrame", as_json: bool) -> None:
    """Markdown tables, or one JSON object of the same frames."""
    from pipelines.evaluation.study_tables import Question, compare, figures, render

    study = loaded.study
    questions = [Question(one.arm, one.against, one.question) for one in study.comparisons]
    measured = figures(values, num_resamples=study.num_resamples)
    answers = compare(values, questions, num_resamples=study.num_resamples)
    if as_json:
        frames = {"costs": costs, "figures": measured, "answers": answers}
        print(json.dumps({"study": loaded.name, **{name: frame.to_dicts() for name, frame in frames.items()}}))
        return
    told = {"steps": f"Equal steps: {study.max_steps}", "time": f"Equal time: {study.max_seconds} s of training"}
    print(render(loaded.name, {budget: told[budget] for budget in study.budgets()}, costs, measured, answers))


def _tables_of_arms(loaded: "Loaded", root: RootOptions, given: list[str], note: str) -> "dict[str, Tables]":
    """Each arm's root, whose commits record the arm's recipe."""
    from pipelines.storage import Invocation

    named = dict(one.partition("=")[::2] for one in given)
    wanted = {arm.root for arm in loaded.study.arms if arm.root}
    if named.keys() != wanted or not all(named.values()):
        names = " ".join(f"--root {name}=FOLDER" for name in sorted(wanted)) or "no --root"
        raise UserError(
            f"study {loaded.name} has arms of other roots: {sorted(wanted)}; found {given}, expected {names}"
        )

    def tables_of(arm: "Arm") -> "Tables":
        recipe = loaded.recipe_of(arm).model_dump(mode="json")
        place = root if arm.root is None else RootOptions(tables=named[arm.root])
        return place.open(Invocation(recipe, note))

    return {arm.name: tables_of(arm) for arm in loaded.study.arms}
