"""Show what made a version, or what was made from it."""

from typing import Annotated, Any

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions


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

    tables = root.open()
    if version is None or "@" not in version:
        entries = every_version(tables, version)
    elif downstream:
        entries = downstream_of(tables.parse(version))
    else:
        entries = upstream_of(tables.parse(version))
    for depth, name, told in entries:
        print(json.dumps({"depth": depth, "version": name, **told}) if as_json else _line(depth, name, told))


def _line(depth: int, name: str, told: dict[str, Any]) -> str:
    inputs = ", ".join(entry["version"] for entry in told.get("inputs", ()))
    files = ", ".join(entry["path"] for entry in told.get("result", {}).get("ingested_files", ()))
    code = told.get("code", {})
    sources = code.get("commit", "")[:12] or code.get("sources_digest", "?")
    parts = [
        told.get("stage", "not written by this system"),
        f"from {inputs or files}" if inputs or files else "",
        f"config {told['config_fingerprint']}" if "config_fingerprint" in told else "",
        f"code {sources}{' (dirty)' if code.get('is_dirty') else ''}",
        f"ray job {told['ray_job']}" if told.get("ray_job") else "",
        f"note: {told['note']}" if told.get("note") else "",
    ]
    return f"{'  ' * depth}{name:<24} " + "; ".join(part for part in parts if part)
