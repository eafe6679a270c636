"""Recipes: named runs as TOML, one table per stage, validated whole before anything starts.

A recipe is a file in jobs/recipes or the user's own path; `--set stage.field=value` overrides one field.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from pipelines.curate import CurateConfig
from pipelines.evaluate import EvaluateConfig
from pipelines.generation.config import GenerateConfig
from pipelines.ingest import IngestConfig
from pipelines.judging.config import RelabelConfig
from pipelines.mine import MineConfig
from pipelines.scoring.config import ScoreConfig
from pipelines.stage.config import Config
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of
from pipelines.students.config import DistillConfig

SECRET_OF_URL = re.compile(r"(?<=://)[^/@\s']+(?=@)|(?<=\?)[^\s']+")  # name and password, or a query
RECIPES = Path(__file__).parent / "recipes"
Checked = TypeVar("Checked", bound=Config)


class Recipe(Config):
    """Everything that a run can be told, one part per stage."""

    ingest: IngestConfig = IngestConfig()
    generate: GenerateConfig = GenerateConfig()
    mine: MineConfig = MineConfig()
    score: ScoreConfig = ScoreConfig()
    relabel: RelabelConfig = RelabelConfig()
    curate: CurateConfig = CurateConfig()
    distill: DistillConfig = DistillConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


def load_recipe(name_or_path: str, overrides: list[str] | None) -> Recipe:
    """The recipe of that name with the overrides applied; says its name on stderr.

    Raises:
        UserError: no such recipe, no TOML, or a wrong key or value; with what is allowed.
    """
    values = read_toml(name_or_path, RECIPES, "--recipe")
    for override in overrides or ():
        apply_override(values, override)
    recipe = checked(Recipe, values, f"recipe {name_or_path}")
    print(f"recipe {name_or_path}", file=sys.stderr)
    return recipe


def is_of(recorded: dict[str, Any] | None, recipe: Recipe) -> bool:
    """Whether what a commit recorded is this recipe; what recipes did not have then counts at its default."""
    try:
        return Recipe.model_validate(recorded).model_dump(mode="json") == recipe.model_dump(mode="json")
    except ValidationError:  # it had what recipes have no more
        return False


def read_toml(name_or_path: str, folder: Path, given_as: str) -> dict[str, Any]:
    """The values of the TOML file of that name in a folder of ours, or of the user's own. Raises UserError."""
    kind, known = given_as.removeprefix("--"), sorted(path.stem for path in folder.glob("*.toml"))
    path = folder / f"{name_or_path}.toml" if name_or_path in known else path_of(name_or_path, given_as)
    if not path.is_file():
        raise UserError(f"there is no {kind} {name_or_path!r}; expected {', '.join(known)}, or the path of a TOML file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{kind} {path} is no TOML: {error}; expected tables as in {folder.name}/") from error


def checked(kind: type[Checked], values: dict[str, Any], name: str) -> Checked:
    """The values as such a config. Raises UserError with each wrong key or value of what is called `name`."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{name}: {'; '.join(_told(kind, one) for one in error.errors())}") from error


def apply_override(values: dict[str, Any], override: str) -> None:
    """Apply `stage.field=value` to a recipe's values; the value is read as TOML, and as text where it is none.

    A training stage is meant by its name or, as in errors, by its number from 0: distill.stages.1.epochs=2.
    """
    key, equals, text = override.partition("=")
    *stages, field = key.strip().split(".")
    if not equals or not stages or not field:
        raise UserError(f"--set {override!r}: expected stage.field=value, for example distill.learning_rate=3e-5")
    for stage in stages:
        values = _entry(values, stage, override) if isinstance(values, list) else values.setdefault(stage, {})
        is_list_of_more = isinstance(values, list) and stage != stages[-1]
        if not (isinstance(values, dict) or is_list_of_more):
            raise UserError(f"--set {override!r}: {stage} holds no fields; expected stage.field=value")
    values[field] = _value(text.strip())


def _entry(entries: list[Any], which: str, override: str) -> Any:
    """One of a list of tables."""
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    there = {str(number): number for number in range(len(entries))} | {
        name or f"stage_{number + 1}": number for number, name in enumerate(names)
    }
    if which not in there:
        raise UserError(f"--set {override!r}: there is no {which} among them; expected one of {', '.join(there)}")
    return entries[there[which]]


def _value(text: str) -> Any:
    if text in {"null", "none", "None"}:
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _told(kind: type[Config], error: Any) -> str:
    """One validation error: where, what was found, what is allowed."""
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        model: Any = kind
        for part in error["loc"][:-1]:
            model = get_args(model)[0] if isinstance(part, int) else model.model_fields[part].annotation
        return f"{place} is no key; expected one of {', '.join(model.field_names())}"
    found = "" if isinstance(error["input"], dict) else f" = {error['input']!r}"  # a whole table is no value to show
    found = SECRET_OF_URL.sub("***", found)
    return f"{place}{found}: {error['msg'].removeprefix('Value error, ')}".removeprefix(": ")
