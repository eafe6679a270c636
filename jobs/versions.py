"""Which version a command reads when `--from` names none: the newest that is right and readable, and it says which.

What is named, and what is newest, is checked before any work: every file there, every row written by this system.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jobs.usage import say
from pipelines.stage import hints
from pipelines.stage.config import flat
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of
from pipelines.stage.progress import tell

if TYPE_CHECKING:
    from jobs.recipe import Recipe
    from pipelines.storage import Tables, TableVersion

MADE_BY = {"triplets": "ingest` or `mine", "scored_triplets": "score", "curated_triplets": "curate"}


def version_to_read(tables: "Tables", name: str, given: str | None) -> "TableVersion":
    """The version given, or the newest that a stage wrote and that can be read; newer ones passed over are said.

    Raises:
        UserError: the given one cannot be used, or there is none.
    """
    from pipelines.curation.outcomes import part_of
    from pipelines.storage.commits import IntakeResult

    if given is not None:
        version = _given(tables, name, given)
        if part := part_of(version):
            tell(f"{version} is partial: made of {part}")
        return version
    if name == "curated_triplets":
        return _newest_whole_curation(tables)
    return _newest(tables, name, "newest", lambda one: one.commit.reports(IntakeResult) is not None)


def _newest_whole_curation(tables: "Tables") -> "TableVersion":
    """The newest that was curated with all triplets scored: what is made of a part has to be asked for."""
    from pipelines.storage.commits import CurationResult

    name = "curated_triplets"
    newest = tables.latest(name)
    parts = {str(one): made.part for one, made in newest.results(CurationResult) if made.part} if newest else {}

    def is_right(version: "TableVersion") -> bool:
        return version.commit.reports(CurationResult) is not None and str(version) not in parts

    if newest and parts and not any(is_right(one) for one in newest.history()):
        version, part = next(iter(parts.items()))
        raise UserError(
            f"{version} is partial, made of {part}; to take it all the same: --from {version}; else `python -m jobs "
            "score` without --share, and curate again"
        )
    whole = _newest(tables, name, "newest", is_right)
    if newer := [f"{one} ({part})" for one, part in parts.items() if tables.parse(one).version > whole.version]:
        tell(f"passing over what was made of a part of the triplets: {', '.join(newer)}; to take it: --from")
    return whole


def scores_to_read(
    tables: "Tables", given: str | None, teacher: str | None, recipe: "Recipe"
) -> "tuple[TableVersion, str | None]":
    """The scored version given, or the newest, and whose scores: the teacher given, or the recipe's if it has any.

    Of the newest, one that says what is complete comes first, if it has the teacher's. Raises as version_to_read.
    """
    from pipelines.storage.commits import ScoringResult

    name = "scored_triplets"
    scored = _given(tables, name, given) if given is not None else tables.latest(name)
    if teacher is None and scored:
        teacher = _recipes_teacher(scored, recipe)
    if given is not None and scored:
        return scored, teacher
    results = list(scored.results(ScoringResult)) if scored else []
    completed = [one.version for one, result in results if result.complete and teacher in (None, result.teacher)]
    says_complete = {one for one, result in results if result.complete and one.version >= min(completed, default=0)}
    if completed:
        with suppress(UserError):  # none of them is left: later versions have their rows, too
            return _newest(tables, name, "newest complete one", lambda one: one in says_complete), teacher
    return _newest(tables, name, "newest", lambda one: one.commit.reports(ScoringResult) is not None), teacher


def _given(tables: "Tables", name: str, given: str) -> "TableVersion":
    """The version of that name among those given: `score --vectors` prints two."""
    versions = [tables.parse(printed) for printed in given.split("\n")]
    of_table = [version for version in versions if version.name == name]
    if not of_table:
        raise UserError(
            f"--from {given}: expected a version of {name}, for example {tables.latest(name) or f'{name}@0'}"
        )
    return of_table[0].usable()


def _newest(tables: "Tables", name: str, kind: str, is_right: "Callable[[TableVersion], bool]") -> "TableVersion":
    """The newest usable version of that kind, told."""
    newest, latest = tables.newest(name, is_right), tables.latest(name)
    if newest is None or latest is None:
        there = f"is no table {name}" if latest is None else f"is no version of {name} that this system made"
        raise UserError(f"there {there} under {tables.uri}; run `python -m jobs {MADE_BY[name]}` first")
    alike = f"; {latest} holds the same rows" if latest != newest and latest.origin() == newest else ""
    print(f"from {newest} (the {kind}{alike})", file=sys.stderr)
    return newest


def _recipes_teacher(scored: "TableVersion", recipe: "Recipe") -> str | None:
    """Of those who scored, the recipe's teacher; None when it has not, or when that cannot be told.

    Where there is a choice, files on this machine tell exactly. Else the config does that it scored with, or its name:
    nothing is fetched.
    """
    from pipelines.checkpoints.name import name_of
    from pipelines.storage.commits import ScoringResult
    from pipelines.teachers.config import TeacherConfig, name_teacher

    configs = {result.teacher: version.commit.config for version, result in scored.results(ScoringResult)}
    wanted, place = TeacherConfig.part_of(recipe.score.model_dump()), path_of(recipe.score.teacher, "score.teacher")
    meanings = {one: TeacherConfig.part_of(config).meaning() for one, config in configs.items()}
    wanted_meanings = [choice.meaning() for choice in wanted.choices()]
    last = next((meaning for meaning in meanings.values() if meaning in wanted_meanings), None)
    exact = [one for one, meaning in meanings.items() if meaning == last]
    if (len(configs) > 1 or not exact) and (place.is_dir() or wanted.teacher.startswith("package:")):
        with suppress(UserError):  # damaged since it scored: its name is left
            names = [name_teacher(choice) for choice in wanted.choices()]
            same = next((one for one in configs if one in names), None)
            if same or len(configs) > 1:
                return same
    found = exact or [one for one in configs if one.partition("@")[0] == name_of(place, "").removesuffix("@")]
    taken = found or list(configs)
    if len(taken) == 1 and not exact:
        _warn_of_other_scores(scored, taken[0], meanings[taken[0]], wanted_meanings)
    return found[0] if len(found) == 1 else None


def _warn_of_other_scores(
    scored: "TableVersion", teacher: str, meaning: dict[str, Any], wanted: list[dict[str, Any]]
) -> None:
    """That the only scores are not as the recipe says, what differs, and what to do."""
    nearest = min(wanted, key=lambda one: sum(one[name] != found for name, found in meaning.items()))
    differing = [name for name, found in meaning.items() if nearest[name] != found]
    told = "; ".join(f"score.{name} was {meaning[name]}, the recipe has {nearest[name]}" for name in differing)
    _warn(
        f"{scored} was not scored as the recipe says, and is taken all the same: {told}. Expected the --recipe and "
        f"--set that scored it; or, where these scores are meant, --teacher {teacher}; or scores by this recipe: "
        "`python -m jobs score`"
    )


def curation_to_train_on(tables: "Tables", given: str | None, recipe: "Recipe") -> "TableVersion":
    """The curation given, or the newest; a newest one by other rules than the recipe's is taken with a warning.

    Raises as version_to_read.
    """
    curated = version_to_read(tables, "curated_triplets", given)
    if given is not None:
        return curated
    rules, wanted = (flat(one, "curate.") for one in (curated.commit.config, recipe.curate.model_dump(mode="json")))
    differing = [name for name, found in rules.items() if name in wanted and wanted[name] != found]
    if differing:
        told = "; ".join(f"{name} was {rules[name]}, the recipe has {wanted[name]}" for name in differing)
        _warn(
            f"{curated} was not curated as the recipe says, and is taken all the same, as the newest: {told}. Where it "
            f"is meant: --from {curated}; else expected an earlier one in --from, or one by this recipe: "
            "`python -m jobs curate`"
        )
    return curated


def _warn(line: str) -> None:
    say(hints.completed(line), prefix="warning:", style="yellow")


def newest_vectors(tables: "Tables", recipe: "Recipe") -> "TableVersion | None":
    """The newest teacher_vectors, if the objective has a term for them; distill refuses to go without."""
    return tables.newest("teacher_vectors") if recipe.distill.needs_vectors() else None
