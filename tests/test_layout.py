"""The layout holds: who may import whom, where each library may be used, where a test lies, how long a function is."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = {"ingest", "generate", "mine", "score", "relabel", "curate", "distill", "evaluate", "publish"}
TOP_LEVEL = {"schemas", "pipelines", "jobs", "tests", "infra", ".ci", ".github"}
TOP_LEVEL |= {"README.md", "LICENSE", "pyproject.toml", ".gitignore", ".git"}
MADE_BY_TOOLS = {".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__", "quickstart", "shared"}
MADE_BY_TOOLS |= {"tables", "my_model"}  # as the README calls a user's own
MAY_IMPORT = {  # folder -> folders of ours it may import from
    "schemas": {"schemas"},
    "pipelines": {"schemas", "pipelines"},
    "jobs": {"schemas", "pipelines", "jobs"},
}
PACKAGES = {  # package of pipelines/ -> all of ours that it may import; each stands below those it imports
    "stage": "",
    "texts": "stage",
    "unpadded": "",
    "storage": "schemas stage texts",
    "checkpoints": "schemas stage storage",
    "teachers": "stage texts checkpoints unpadded",
    "search": "stage storage texts checkpoints teachers unpadded",
    "intake": "schemas stage storage texts",
    "asking": "schemas stage storage",
    "generation": "schemas stage storage texts teachers search intake asking",
    "mining": "schemas stage storage texts teachers search intake",
    "streaming": "schemas stage storage texts",
    "scoring": "checkpoints schemas stage storage texts teachers streaming",
    "curation": "schemas stage storage texts intake",
    "judging": "schemas stage storage teachers asking curation",
    "students": "schemas stage storage texts checkpoints unpadded search curation",
    "evaluation": "schemas stage storage texts checkpoints teachers search intake curation students",
    "inspection": "schemas stage storage texts checkpoints curation",
    "erasure": "schemas stage storage texts checkpoints scoring inspection",
    "report": "schemas stage storage checkpoints teachers curation evaluation inspection",
    "publication": "schemas stage storage checkpoints curation inspection report",
    "benchmarks": "stage storage texts unpadded checkpoints teachers search curation students evaluation",
}
LONGEST_FUNCTION = 45  # lines
WITHOUT_A_MODULE = {  # test file -> what it tests instead of the module of its name
    "tests/schemas/test_checks.py": "every table alike",
    "tests/pipelines/storage/test_schema_evolution.py": "a table older than a column, read by tables and written to",
    "tests/pipelines/students/test_modernbert_full_size.py": "the guide's model in its real size",
    "tests/pipelines/students/training/test_ranks.py": "training/ in several processes, against a single one",
    "tests/jobs/test_command_line.py": "every command, as a user types it",
    "tests/jobs/test_hostile_values.py": "every command, as nobody means it",
    "tests/jobs/test_ray_job.py": "cluster and submit on a cluster of its own",
}
ONLY_IN = {  # library -> the only files and folders that may import it
    "deltalake": ["pipelines/storage"],
    "faiss": ["pipelines/search/approximate.py"],
    "pandera": ["schemas", "pipelines/storage"],
    "ray": [
        "pipelines/streaming",
        "pipelines/students/training/on_ray.py",
        "pipelines/students/training/parallel_tokens.py",
        "pipelines/students/training/kept.py",
        "jobs/cluster.py",
        "jobs/check.py",
        "jobs/submit.py",
    ],
    "openai": ["pipelines/asking/endpoint.py"],
}


def source_files(folder: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))


OURS = [path for folder in MAY_IMPORT for path in source_files(folder)]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imported_modules(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, inside functions too; relative imports are spelled out."""
    for node in ast.walk(tree_of(path)):
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


@pytest.mark.parametrize(("library", "places"), ONLY_IN.items())
def test_a_library_is_imported_only_where_it_belongs(library, places):
    users = [path for path in OURS if any(module.split(".")[0] == library for module in imported_modules(path))]

    assert [str(path) for path in users if not any(path.is_relative_to(place) for place in places)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_the_table_above_allows(package):
    modules = {module for path in source_files(f"pipelines/{package}") for module in imported_modules(path)}
    ours = {module.removeprefix("pipelines.").split(".")[0] for module in modules if module.split(".")[0] in MAY_IMPORT}

    assert ours - {package, "pipelines"} <= set(PACKAGES[package].split())


def test_the_table_names_every_package_below_those_it_imports():
    packages = list(PACKAGES)

    assert set(packages) == {path.parts[1] for path in source_files("pipelines") if len(path.parts) > 2}
    for position, package in enumerate(packages):
        assert set(PACKAGES[package].split()) <= {"schemas", *packages[:position]}


def test_only_the_stages_stand_at_the_top_of_pipelines():
    assert {path.stem for path in (ROOT / "pipelines").glob("*.py")} == {*STAGES, "__init__"}


def table_classes(trees: Mapping[str, ast.Module]) -> set[str]:
    """Each class, as "file: class", that derives from a Pandera model, through whichever of our classes."""
    bases = {
        f"{file}: {node.name}": {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
        for file, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    renamed = {
        alias.asname: alias.name.split(".")[-1]
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
        if alias.asname
    }
    tables, found = {"DataFrameModel"}, set[str]()
    while more := {name for name, of in bases.items() if tables & {*of, *(renamed.get(base) for base in of)}} - found:
        found |= more
        tables |= {name.split(": ")[1] for name in more}
    return found


def test_columns_are_declared_only_in_schemas():
    declared = table_classes({str(path): tree_of(path) for path in OURS})

    assert {name for name in declared if not name.startswith("schemas/")} == set()
    assert {"schemas/table.py: Table", "schemas/curated_triplets.py: CuratedTriplets"} <= declared


@pytest.mark.parametrize(
    "source",
    [
        "class X(Table): ...",
        "class X(schemas.Triplets): ...",
        "from schemas import Table as Base\ndef make():\n    class X(Base): ...",
        "class Y(Triplets): ...\nclass X(Y): ...",
    ],
)
def test_a_table_declared_in_pipelines_would_be_noticed(source):
    trees = {str(path): tree_of(path) for path in source_files("schemas")} | {"pipelines/x.py": ast.parse(source)}

    assert "pipelines/x.py: X" in table_classes(trees)


def test_delta_is_known_to_storage_alone():
    users = {
        str(path)
        for path in OURS
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr == "delta"
    }

    assert users
    assert {path for path in users if not path.startswith("pipelines/storage/")} == set()


def functions(paths: Iterable[Path]) -> Iterator[tuple[str, int]]:
    """("file: function", its lines) of every function."""
    for path in paths:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}: {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_function_is_longer_than_a_screen():
    long = {name: lines for name, lines in functions([*OURS, *source_files("infra")]) if lines > LONGEST_FUNCTION}

    assert long == {}


def names_in(folder: Iterable[str]) -> set[str]:
    """The modules, scripts and packages of a folder."""
    return {path.stem for path in ROOT.joinpath(*folder).glob("*") if path.stem[0] not in "._"}


def test_a_test_lies_where_its_module_lies():
    tests = {path for folder in ("schemas", "pipelines", "jobs", "infra") for path in source_files(f"tests/{folder}")}
    alone = {
        str(path)
        for path in tests
        if path.name.startswith("test_") and path.stem.removeprefix("test_") not in names_in(path.parts[1:-1])
    }

    assert alone == set(WITHOUT_A_MODULE)


def test_there_is_one_ray_init():
    callers = [str(path) for path in OURS if "ray.init(" in (ROOT / path).read_text(encoding="utf-8")]

    assert callers == ["jobs/cluster.py"]


def test_no_module_is_named_utils_or_common():
    names = {path.stem for folder in (*MAY_IMPORT, "tests", "infra") for path in source_files(folder)}

    assert names & {"utils", "util", "common", "helpers", "misc"} == set()


def test_the_top_level_holds_nothing_else():
    assert {path.name for path in ROOT.iterdir()} - MADE_BY_TOOLS <= TOP_LEVEL
