"""What a study does: the arms' data, their models, what these measure, and all of it as frames.

    arm -> curated_triplets@v -> models/STUDY-ARM-sSEED -> evaluations -> values, costs

Each step finds what is there already: a study that was stopped goes on, and one that is finished only prints.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl

from jobs.cluster import connect
from jobs.studies import Arm, Budget, Loaded, Run
from jobs.versions import newest_vectors, scores_to_read, version_to_read
from pipelines import curate, distill, evaluate
from pipelines.checkpoints.run_folder import METRICS, RUN, RunFolder
from pipelines.curation.outcomes import curation_of
from pipelines.evaluation.recorded import missing, recorded
from pipelines.evaluation.study_tables import IN_DOMAIN, with_sizes
from pipelines.stage.progress import tell
from pipelines.storage import Tables, TableVersion
from pipelines.students.checks import check_training
from pipelines.students.config import DistillConfig
from pipelines.students.training_config import TrainingConfig

FLOAT32 = "float32"
CURATED = "curated_triplets@"


class System(NamedTuple):
    """What `evaluations` has under a model_id, as the study's tables call it."""

    model_id: str
    arm: str
    budget: str
    seed: int
    root: str
    kept_as: str = FLOAT32


def arms_to_train(loaded: Loaded, tables: dict[str, Tables]) -> list[Arm]:
    """Those of which a model is not there yet."""
    left = {run.arm.name for run in loaded.runs() if RunFolder(tables[run.arm.name], run.name).read(RUN) is None}
    return [arm for arm in loaded.study.arms if arm.name in left]


def curated_of(loaded: Loaded, arm: Arm, tables: Tables, given: str | None) -> TableVersion:
    """What the arm trains on: the curated version that is given, else its recipe's curation, made if need be.

    Args:
        given: curated_triplets@V; or scored_triplets@V, to be curated; None is the newest scores.
    """
    if given is not None and given.startswith(CURATED):
        return version_to_read(tables, "curated_triplets", given)
    recipe = loaded.recipe_of(arm)
    scored, teacher = scores_to_read(tables, given, None, recipe)
    found = curate.find(scored, recipe.curate, teacher=teacher)
    if found is None:
        tell(f"study: curating {scored} for arm {arm.name}")
        found = curate.run(scored, recipe.curate, teacher=teacher).version
    assert found is not None, "only a dry run has no version"
    return found


class Models:
    """The study's models, trained one after the other over one connection to Ray."""

    def __init__(self, loaded: Loaded, curated: dict[str, TableVersion]) -> None:
        self.loaded, self.curated = loaded, curated
        self.trained: dict[str, dict[str, Any]] = {}  # a model's name -> its run.json

    def check(self, arms: Sequence[Arm]) -> None:
        """Refuse what cannot be trained, before any is."""
        for arm in arms:
            recipe, curated = self.loaded.recipe_of(arm), self.curated[arm.name]
            check_training(curated, recipe.distill, newest_vectors(curated.tables, recipe))

    def train_all(self) -> None:
        """The calibrations first, then seed by seed."""
        runs, study = self.loaded.runs(), self.loaded.study
        steps_of = {(arm.name, budget): self._steps_of(arm, budget) for budget in study.budgets() for arm in study.arms}
        for number, run in enumerate(runs, 1):
            steps = steps_of[run.arm.name, run.budget]
            tell(f"study: model {number} of {len(runs)}: {run.name}")
            told = self._train(run.name, run.arm, run.seed, steps)
            if told["steps"] < steps:
                tell(f"study: {run.name} had data for {told['steps']} of {steps} steps only: raise distill.epochs")

    def _steps_of(self, arm: Arm, budget: Budget) -> int:
        """Of equal time as many as fit, by the arm's calibration, which is trained if need be."""
        study = self.loaded.study
        amount = study.budgets()[budget]
        if budget == "steps":
            return int(amount)
        name = self.loaded.calibration_name(arm)
        return steps_within(amount, self._train(name, arm, study.seeds[0], study.calibration_steps))

    def _train(self, name: str, arm: Arm, seed: int, steps: int) -> dict[str, Any]:
        recipe, curated = self.loaded.recipe_of(arm, seed, steps), self.curated[arm.name]
        vectors = newest_vectors(curated.tables, recipe)
        distill.run(curated, recipe.distill, name=name, vectors=vectors, connect=connect)
        told = RunFolder(curated.tables, name).read(RUN)
        assert told is not None, f"{name} is trained"
        self.trained[name] = told
        return told

    def model_id(self, run: Run) -> str:
        return f"{run.name}@{self.trained[run.name]['weights_sha256'][:12]}"

    def costs(self) -> pl.DataFrame:
        """budget, arm, seeds, steps, seconds, triplets_per_s: means over the seeds."""
        rows = []
        for run in self.loaded.runs():
            told = self.trained[run.name]
            triplets = _triplets_seen(RunFolder(self.curated[run.arm.name].tables, run.name))
            rate = triplets / max(told["seconds"], 1e-9)
            rows.append((run.budget, run.arm.name, float(told["steps"]), float(told["seconds"]), rate))
        names = ["budget", "arm", "steps", "seconds", "triplets_per_s"]
        frame = pl.DataFrame(rows, schema=names, orient="row")
        of_arms = frame.group_by("budget", "arm", maintain_order=True)
        return of_arms.agg(pl.len().cast(pl.Int64).alias("seeds"), pl.col(names[2:]).mean())


def steps_within(max_seconds: float, calibration: dict[str, Any]) -> int:
    """As many steps as fit into the time, by the seconds that a calibration's steps took; at least one."""
    return max(1, int(max_seconds * calibration["steps"] / calibration["seconds"]))


def _triplets_seen(folder: RunFolder) -> int:
    with folder.filesystem.open_input_file(f"{folder.path}/{METRICS}") as file:
        return sum(json.loads(line).get("triplets", 0) for line in file.read().decode().splitlines())


class Measurements:
    """What the models measure on the test split of one version, the same for all arms, and on BEIR folders."""

    def __init__(self, models: Models, beir: Sequence[str]) -> None:
        self.models, self.beir = models, beir
        self.loaded = models.loaded
        self.first = next((arm for arm in self.loaded.study.arms if arm.root is None), self.loaded.study.arms[0])
        self.on = models.curated[self.first.name]

    @cached_property
    def sets(self) -> dict[str, str]:
        """Data set, as `evaluations` names it -> as the study's tables do."""
        names = [one.name for one in evaluate.find_sets(self.on, self.beir, self.loaded.recipe_of(self.first).evaluate)]
        short = {name: name.partition("@")[0].rpartition("/")[2] for name in names if name.startswith("beir/")}
        is_one = {name: list(short.values()).count(of) == 1 for name, of in short.items()}
        return {name: (short[name] if is_one[name] else name) if name in short else IN_DOMAIN for name in names}

    def measure_all(self) -> list[System]:
        """Every model alone, then what stands beside them, once; what is there already is not measured again."""
        systems = []
        for run in self.loaded.runs():
            model_id, quantised = self.models.model_id(run), self.loaded.recipe_of(run.arm).evaluate.quantised
            ids = {model_id: FLOAT32} | {f"{kept_as}:{model_id}": str(kept_as) for kept_as in quantised}
            self._measure(run, set(ids), quantised=quantised)
            of_run = run.arm.name, run.budget, run.seed, self._tables_of(run).uri
            systems += [System(its_id, *of_run, kept_as) for its_id, kept_as in ids.items()]
        beside = [*self._untrained(), *self._references()]
        return [*systems, *(one._replace(budget=budget) for budget in self.loaded.study.budgets() for one in beside)]

    def values(self, systems: Sequence[System]) -> pl.DataFrame:
        """As study_tables.figures takes them: one row per system, size, set and query."""
        labels = pl.DataFrame(systems, orient="row")
        found = []
        for tables in {one.tables.uri: one.tables for one in self.models.curated.values()}.values():
            of_root = labels.filter(root=tables.uri)
            values = recorded(tables, of_root["model_id"].to_list(), self.sets)
            found.append(of_root.join(values, on="model_id", maintain_order="left_right"))
        rows = pl.concat(found).with_columns(pl.col("data_set").replace(self.sets))
        return with_sizes(rows, self.loaded.study.dimensions)

    def _tables_of(self, run: Run) -> Tables:
        return self.models.curated[run.arm.name].tables

    def _measure(
        self, run: Run, model_ids: set[str], *, quantised: Sequence[str] = (), compare_with: Sequence[str] = ()
    ) -> None:
        tables = self._tables_of(run)
        if missing(tables, model_ids, self.sets):
            changes = {"quantised": quantised, "compare_with": tuple(compare_with), "count_overlap": False}
            config = self.loaded.recipe_of(run.arm).evaluate.model_copy(update=changes)
            evaluate.run(tables, run.name, config, on=self.on, beir=self.beir)

    def _untrained(self) -> Iterator[System]:
        """Each student before its training, once where arms begin with the same."""
        begun: dict[str, Run] = {}
        for run in self.loaded.runs():
            recipe = self.loaded.recipe_of(run.arm)
            if "untrained" in recipe.evaluate.compare_with:
                begun.setdefault(_student_of(recipe.distill), run)
        for run in begun.values():
            untrained = f"untrained:{self.models.model_id(run)}"
            self._measure(run, {untrained}, compare_with=["untrained"])
            name = f"{run.arm.name} untrained" if len(begun) > 1 else "untrained"
            yield System(untrained, name, "", 0, self._tables_of(run).uri)

    def _references(self) -> Iterator[System]:
        """The teacher of the first arm's curation, and BM25."""
        run = next(run for run in self.loaded.runs() if run.arm == self.first)
        wanted = self.loaded.recipe_of(self.first).evaluate.compare_with
        known = {"teacher": curation_of(self.on).teacher} if "teacher" in wanted else {}
        known |= {"bm25": "bm25"} if "bm25" in wanted else {}
        lacking = missing(self.on.tables, set(known.values()), self.sets)
        if lacking:
            roles = [role for role, model_id in known.items() if model_id in lacking]
            self._measure(run, lacking, compare_with=roles)
        yield from (System(model_id, role, "", 0, self.on.tables.uri) for role, model_id in known.items())


def _student_of(config: DistillConfig) -> str:
    """Which student a training begins with."""
    fields = DistillConfig.model_fields.keys() - TrainingConfig.model_fields.keys() - {"stages"} | {"dimensions"}
    return config.model_dump_json(include=fields)
