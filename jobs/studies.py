"""Studies: recipes compared side by side, as TOML, validated whole before anything starts.

A study is a file in jobs/recipes/studies or the user's own path. Its tables [score], [curate], [distill], [evaluate]
change its recipe for all arms; an arm's own `curate` and `distill` change that for the arm.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from jobs.recipe import RECIPES, Recipe, apply_override, checked, read_toml
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError

STUDIES = RECIPES / "studies"
STAGES = ("score", "curate", "distill", "evaluate")
CALIBRATION = "calibration"
Budget = Literal["steps", "time"]
Changes = dict[str, Any]


class Arm(Config):
    """One of the recipes that are compared."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    curate: Changes = Field({})
    """Fields of the recipe's [curate] that differ: the arms then train on several curations of the same scores."""
    distill: Changes = Field({})
    """Fields of the recipe's [distill] that differ. Where it has `stages`, their `max_steps` share the budget."""
    quantised: tuple[Literal["int8", "binary"], ...] = ()
    """Measure it also with its passage vectors kept so."""
    curated: str | None = Field(None, pattern=r"^curated_triplets@[0-9]+$")
    """Train on this very version, curated_triplets@7, instead of the recipe's curation."""
    root: str | None = None
    """Train on another root's triplets, the one that the command names: --root NAME=FOLDER."""


class Comparison(Config):
    """A question that two arms answer."""

    arm: str
    against: str
    question: str


class Study(Config):
    """Which arms are trained, how often and for how long; and what is asked of them."""

    recipe: str
    """What all arms begin with: a name in jobs/recipes, or a path."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 1, 2), min_length=1)
    """distill.seed of each arm's models."""
    max_steps: int | None = Field(None, ge=1)
    """Equal steps: each arm trains so many."""
    max_seconds: float | None = Field(None, gt=0)
    """Equal time: each arm trains as many steps as fit, by its seconds a step in a calibration. These steps are fixed
    then and recorded, so that the models can be made again: nothing reads a clock into the weights."""
    calibration_steps: int = Field(20, ge=1)
    """Of the calibration: a model of its own, STUDY-ARM-calibration, which is trained once."""
    dimensions: tuple[Annotated[int, Field(ge=1)], ...] = (128, 64)
    """Figures are given at full size and, where arms have them, at these."""
    num_resamples: int = Field(2_000, ge=1)
    """Bootstrap samples behind an interval."""
    score: Changes = Field({})
    curate: Changes = Field({})
    distill: Changes = Field({})
    evaluate: Changes = Field({})
    """Also which systems are measured once beside the arms: `compare_with`."""
    arms: tuple[Arm, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...] = ()

    @model_validator(mode="after")
    def _is_about_its_arms(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"arms are {', '.join(names)} and seeds {self.seeds}, expected each once")
        asked = {name for one in self.comparisons for name in (one.arm, one.against)}
        if unknown := asked - set(names):
            raise ValueError(f"comparisons ask for {', '.join(sorted(unknown))}, expected arms: {', '.join(names)}")
        if not self.budgets():
            raise ValueError("neither max_steps (equal steps) nor max_seconds (equal time), expected one or both")
        return self

    def budgets(self) -> dict[Budget, float]:
        """What each arm is given: steps, seconds or both."""
        given: dict[Budget, float | None] = {"steps": self.max_steps, "time": self.max_seconds}
        return {budget: amount for budget, amount in given.items() if amount is not None}


class Run(NamedTuple):
    """One model of a study."""

    name: str  # of the model
    arm: Arm
    budget: Budget
    seed: int


class Loaded(NamedTuple):
    """A study and what it begins with."""

    name: str
    study: Study
    values: Changes  # the recipe's, with what the study and the command line change for all arms

    def recipe_of(self, arm: Arm, seed: int = 0, steps: int | None = None) -> Recipe:
        """The arm's recipe, trained with this seed for so many steps. Raises UserError with what is wrong in it."""
        values = merged(self.values, {"curate": arm.curate, "distill": arm.distill})
        values["distill"]["seed"] = seed
        if arm.quantised:
            values["evaluate"]["quantised"] = arm.quantised
        if steps is not None:
            values["distill"] |= _within(values["distill"], steps, f"study {self.name}: arm {arm.name}")
        return checked(Recipe, values, f"study {self.name}: arm {arm.name}")

    def runs(self) -> list[Run]:
        """Seed by seed, so that what is there of a study that was stopped holds all arms."""
        return [
            Run(self.model_name(arm, budget, seed), arm, budget, seed)
            for seed in self.study.seeds
            for budget in self.study.budgets()
            for arm in self.study.arms
        ]

    def model_name(self, arm: Arm, budget: Budget, seed: int) -> str:
        """STUDY-ARM-sSEED of equal steps, STUDY-ARM-time-sSEED of equal time."""
        return f"{self.name}-{arm.name}-{'time-' if budget == 'time' else ''}s{seed}"

    def calibration_name(self, arm: Arm) -> str:
        return f"{self.name}-{arm.name}-{CALIBRATION}"


def load_study(name_or_path: str, overrides: Sequence[str] | None) -> Loaded:
    """The study of that name, each arm's recipe checked.

    Args:
        overrides: stage.field=value for all arms; an arm's own fields come after them.
    Raises:
        UserError: no such study, no TOML, or a wrong key or value in it or in an arm's recipe.
    """
    study = checked(Study, read_toml(name_or_path, STUDIES, "study"), f"study {name_or_path}")
    values = merged(read_toml(study.recipe, RECIPES, "--recipe"), {stage: getattr(study, stage) for stage in STAGES})
    for override in overrides or ():
        apply_override(values, override)
    loaded = Loaded(Path(name_or_path).stem, study, values)
    for arm in study.arms:
        loaded.recipe_of(arm, steps=study.max_steps or study.calibration_steps)
    return loaded


def merged(values: Changes, changes: Mapping[str, Any]) -> Changes:
    """Values with changes made to them: tables field by field, all else whole. Neither argument is changed."""
    result = copy.deepcopy(values)
    for key, value in changes.items():
        both_tables = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both_tables else copy.deepcopy(value)
    return result


def _within(distill: Changes, steps: int, name: str) -> Changes:
    """The fields that make a training so long; stages share the steps in proportion to their own max_steps."""
    stages = distill.get("stages")
    if not stages:
        return {"max_steps": steps}
    asked = [stage.get("max_steps", distill.get("max_steps")) for stage in stages]
    if not all(asked) or steps < len(stages):
        raise UserError(
            f"{name} has stages of {asked} steps and {steps} steps in all; expected distill.stages that each have "
            "max_steps, in whose proportion they share the budget, and at least one step each"
        )
    ends = [round(steps * sum(asked[: number + 1]) / sum(asked)) for number in range(len(asked))]
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return {"stages": [stage | {"max_steps": max(1, own)} for stage, own in zip(stages, lengths, strict=True)]}
