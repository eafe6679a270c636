"""Show what made a version, or what was made from it."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from pipelines.storage.commits import Commit


def main(
    version: Annotated[str | None, Parameter(help="TABLE or TABLE@VERSION; all tables if not given")] = None,
    /,
    *,
    downstream: Annotated[bool, Parameter("--downstream", help="what was made from it, instead")] = False,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    import json

    from pipelines.inspection.graph import downstream_of, every_version, upstream_of
    from pipelines.storage.tags import find_tag

    tables = root.open()
    is_one = version is not None and ("@" in version or find_tag(tables, version) is not None)
    if downstream and not is_one:
        raise UserError(f"--downstream of {version or 'all tables'}: expected one version, for example triplets@0")
    if version is None or not is_one:
        entries = every_version(tables, version)
    elif downstream:
        entries = downstream_of(tables.parse(version))
    else:
        entries = upstream_of(tables.parse(version))
    told = set[str]()
    for depth, made in entries:
        entry = {"depth": depth, "version": str(made), **made.commit.model_dump(mode="json")}
        said = "see above" if str(made) in told else _said(made.commit)
        print(json.dumps(entry) if as_json else f"{'  ' * depth}{made!s:<24} {said}")
        told.add(str(made))


def _said(commit: "Commit") -> str:
    """The commit on one line."""
    from pipelines.storage.commits import CurationResult, GenerationResult, IntakeResult, ScoringResult

    if not commit.is_ours:
        return f"not written by this system: {commit.operation or 'an unknown operation'}"
    intake = commit.reports(IntakeResult) or commit.reports(GenerationResult)
    scoring = commit.reports(ScoringResult)
    read = intake.ingested_files if intake else scoring.texts if scoring else ()
    inputs = ", ".join(one.version for one in commit.inputs)
    files = ", ".join(file.path for file in read)
    curation = commit.reports(CurationResult)
    sources = commit.code.commit[:12] or commit.code.sources_digest or "?"
    parts = [
        commit.stage,
        f"from {inputs or files}" if inputs or files else "",
        f"partial: {curation.part}" if curation and curation.part else "",
        f"config {commit.config_fingerprint}",
        f"code {sources}{' (dirty)' if commit.code.is_dirty else ''}",
        f"ray job {commit.ray_job}" if commit.ray_job else "",
        f"note: {commit.note}" if commit.note else "",
    ]
    return "; ".join(part for part in parts if part)
