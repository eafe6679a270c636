"""Show what made a version, or what was made from it."""

from typing import Annotated, Any

import typer

from jobs.options import JsonOption, TablesOption, open_tables


def main(
    version: Annotated[str | None, typer.Argument(help="TABLE or TABLE@VERSION; all tables if not given")] = None,
    downstream: Annotated[bool, typer.Option("--downstream", help="what was made from it, instead")] = False,
    tables: TablesOption = None,
    as_json: JsonOption = False,
) -> None:
    import json

    from pipelines.inspection.graph import downstream_of, every_version, upstream_of

    root = open_tables(tables)
    if version is None or "@" not in version:
        entries = every_version(root, version)
    elif downstream:
        entries = downstream_of(root.parse(version))
    else:
        entries = upstream_of(root.parse(version))
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
