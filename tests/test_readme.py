"""The READMEs are true: every path in them exists, every module stands in its folder's, every command in the first."""

import re
from pathlib import Path
from typing import Any

import pytest

from jobs.__main__ import COMMANDS
from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.intake.layouts import KNOWN_NAMES, SCORES, tell_layout
from pipelines.storage import Tables
from tests.scored_versions import scored_rows, write_scored, write_triplets

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OF_FOLDERS = {
    path.parent.relative_to(ROOT): path.read_text(encoding="utf-8")
    for folder in ("schemas", "pipelines", "jobs", "tests")
    for path in (ROOT / folder).rglob("README.md")
}
OF_A_RECIPE = "ingest generate mine score relabel curate distill evaluate run".split()
PATH_IN_CODE = re.compile(r"\b(?:schemas|pipelines|jobs|tests|infra)/[\w./-]*\w/?")
PATH_IN_FOLDER = re.compile(r"`([\w/]+/|[\w/]*\w\.(?:py|md|toml|sh))`")


@pytest.mark.parametrize(
    "path", sorted({path for text in (README, *OF_FOLDERS.values()) for path in PATH_IN_CODE.findall(text)})
)
def test_every_path_in_the_readmes_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("folder", OF_FOLDERS, ids=str)
def test_every_file_that_a_folders_readme_names_is_there(folder):
    named = PATH_IN_FOLDER.findall(OF_FOLDERS[folder])
    places = [ROOT / folder, ROOT, *(path for path in (ROOT / folder).iterdir() if path.is_dir())]

    assert [path for path in named if not any((place / path).exists() for place in places)] == []


@pytest.mark.parametrize("folder", [*OF_FOLDERS, Path("infra")], ids=str)
def test_every_module_of_a_folder_stands_in_its_readme(folder):
    files = [path for path in sorted((ROOT / folder).glob("*")) if path.suffix in {".py", ".sh", ".toml"}]
    told = README + OF_FOLDERS.get(folder, "")

    assert [path.name for path in files if not path.name.startswith("__init__") and path.stem not in told] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stands_in_the_readme(command):
    assert f"jobs {command}" in README


def test_every_command_in_the_readmes_exists():
    told = "".join([README, *OF_FOLDERS.values()])

    assert set(re.findall(r"python -m jobs ([a-z]+)\b", told)) <= set(COMMANDS)


def test_every_example_on_one_machine_names_the_recipe_of_the_first():
    """A reader who follows them from the top would else have another recipe on the way."""
    on_one_machine, _, _ = README.partition("## Run on a cluster")
    commands = list[str]()
    for block in re.findall(r"```bash\n(.*?)```", on_one_machine, re.DOTALL):
        asked = re.search(r'export ASK="(.*?)"', block)
        lines = block.replace("$ASK", asked[1] if asked else "$ASK").splitlines()
        commands += [line for line in lines if re.match(rf"python -m jobs ({'|'.join(OF_A_RECIPE)})\b", line)]

    assert len(commands) > len(OF_A_RECIPE)
    assert [line for line in commands if "--recipe quickstart" not in line] == []


def test_the_readme_names_every_column_that_is_known_without_being_told():
    rows = re.findall(r"^\| (\w+)[^|]* \| (.*?) \|", README.partition("## What `--input` may be")[2], re.MULTILINE)
    named = {role: re.findall(r"`(\w+)`", columns) for role, columns in rows if role in KNOWN_NAMES}

    known = {role: list(names) for role, names in KNOWN_NAMES.items()}
    known["negative"] += ["negative_1", "negative_2"]
    known["label"] += [*SCORES, "human_score"]
    assert named == known
    assert (
        tell_layout("file", ["human_score", *known["query"], *known["positive"]], {}, pairs=True).label == "human_score"
    )


def test_the_python_of_the_readme_runs_on_a_root_as_curate_leaves_it(tmp_path, monkeypatch, capsys):
    rows = scored_rows([(f"query {n}", "a cat", 9.0 - n, f"a dog {n}", -4.0 if n else 9.5) for n in range(4)])
    curate.run(write_scored(write_triplets(Tables.at(str(tmp_path / "tables")), rows), rows), CurateConfig())
    monkeypatch.chdir(tmp_path)
    told: dict[str, Any] = {}
    scripts = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for script in scripts:
        exec(script, told)

    assert len(scripts) == 2
    assert "no_negative_left" in capsys.readouterr().out
    assert told["worst"]["teacher_margin"].to_list() == [10.0, 11.0, 12.0]
    assert (told["made_from"], told["versions"]) == (["scored_triplets@1", "triplets@0"], ["curated_triplets@0"])
    assert repr(told["curated"]) == f"<curated_triplets@0 under {tmp_path}/tables>"
