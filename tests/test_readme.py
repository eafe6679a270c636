"""The README's map is true: every file on it exists, every job is on it, every command stands in it."""

import re
from pathlib import Path

import pytest

from jobs.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PATH_IN_CODE = re.compile(r"\b(?:schemas|pipelines|jobs|tests|infra)/[\w./-]*\w/?")


@pytest.mark.parametrize("path", sorted(set(PATH_IN_CODE.findall(README))))
def test_every_path_in_the_readme_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("folder", ["schemas", "pipelines", "jobs", "infra"])
def test_every_module_is_on_the_map(folder):
    files = [path for path in sorted((ROOT / folder).glob("*")) if path.suffix in {".py", ".sh"}]
    missing = [path.name for path in files if not path.name.startswith("__init__") and path.name not in README]

    assert missing == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stands_in_the_readme(command):
    assert f"jobs {command}" in README


def test_every_command_in_the_readme_exists():
    assert set(re.findall(r"python -m jobs ([a-z]+)\b", README)) <= set(COMMANDS)
