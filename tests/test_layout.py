"""The layout is what DESIGN promises: who may import whom, and where each outside library may be used."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = {"ingest", "mine", "score", "curate", "distill", "evaluate", "publish"}
TOP_LEVEL = {"schemas", "pipelines", "jobs", "tests", "infra", ".ci", ".github"}
TOP_LEVEL |= {"README.md", "LICENSE", "pyproject.toml", ".gitignore", ".git"}
MADE_BY_TOOLS = {".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__", "quickstart", "shared"}
MAY_IMPORT = {  # folder -> folders of ours it may import from
    "schemas": {"schemas"},
    "pipelines": {"schemas", "pipelines"},
    "jobs": {"schemas", "pipelines", "jobs"},
}
ONLY_IN = {  # library -> the only files and folders that may import it
    "deltalake": ["pipelines/storage"],
    "pandera": ["schemas", "pipelines/storage"],
    "ray": [
        "pipelines/streaming",
        "pipelines/students/training/on_ray.py",
        "jobs/cluster.py",
        "jobs/submit.py",
    ],
}


def source_files(folder: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))


OURS = [path for folder in MAY_IMPORT for path in source_files(folder)]


def imported_modules(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, inside functions too; relative imports are spelled out."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(path.parent.parts[: len(path.parent.parts) - node.level + 1]) if node.level else []
            module = ".".join([*package, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", OURS, ids=str)
def test_imports_point_one_way(path):
    ours = {module.split(".")[0] for module in imported_modules(path)} & {*MAY_IMPORT, "tests", "infra"}

    assert ours <= MAY_IMPORT[path.parts[0]]


@pytest.mark.parametrize("path", source_files("pipelines"), ids=str)
def test_no_stage_and_no_part_imports_a_stage(path):
    stages = {module for module in imported_modules(path) if module.removeprefix("pipelines.").split(".")[0] in STAGES}

    assert {module for module in stages if module.startswith("pipelines.")} == set()


def test_streaming_knows_nothing_of_what_it_streams():
    """Room for whoever streams next: nothing of ours but schemas, the frame of a stage, storage and ids."""
    ours = {
        ".".join(module.split(".")[:2])
        for path in source_files("pipelines/streaming")
        for module in imported_modules(path)
        if module.split(".")[0] in {"pipelines", "jobs"}
    }

    assert ours <= {f"pipelines.{room}" for room in ("streaming", "stage", "storage", "texts")}


@pytest.mark.parametrize(("library", "places"), ONLY_IN.items())
def test_a_library_is_imported_only_where_it_belongs(library, places):
    users = [path for path in OURS if any(module.split(".")[0] == library for module in imported_modules(path))]

    assert [str(path) for path in users if not any(path.is_relative_to(place) for place in places)] == []


def test_columns_are_declared_only_in_schemas():
    declared = [
        f"{path}: {node.name}"
        for path in OURS
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any("DataFrameModel" in ast.unparse(base) for base in node.bases)
    ]

    assert [name for name in declared if not name.startswith("schemas/")] == []
    assert declared != []


def test_there_is_one_ray_init():
    callers = [str(path) for path in OURS if "ray.init(" in (ROOT / path).read_text(encoding="utf-8")]

    assert callers == ["jobs/cluster.py"]


def test_no_module_is_named_utils_or_common():
    names = {path.stem for folder in (*MAY_IMPORT, "tests", "infra") for path in source_files(folder)}

    assert names & {"utils", "util", "common", "helpers", "misc"} == set()


def test_the_top_level_holds_nothing_else():
    assert {path.name for path in ROOT.iterdir()} - MADE_BY_TOOLS <= TOP_LEVEL
