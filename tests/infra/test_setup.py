"""infra/setup.sh and what it installs."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "infra" / "requirements.lock").read_text(encoding="utf-8")


def test_the_lock_pins_exact_releases_only():
    lines = [line for line in LOCK.splitlines() if line and not line.startswith("#")]

    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_every_dependency_of_the_project_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["check"]]
    names = [re.split(r"[\[>=]", requirement)[0] for requirement in wanted]

    assert [name for name in names if f"\n{name}==".lower() not in LOCK.lower()] == []


@pytest.mark.parametrize("script", ["setup.sh", "check.sh", "quickstart.sh"])
def test_the_scripts_parse(script):
    subprocess.run(["bash", "-n", ROOT / "infra" / script], check=True)


def test_without_a_supported_python_one_message_says_what_is_needed(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (tmp_path / name).write_text(old.read_text())
        (tmp_path / name).chmod(0o755)

    script = f"source {ROOT}/infra/setup.sh; setup"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr.startswith("Python 3.11, 3.12 or 3.13 is needed, found: Python 3.9.2.")
    assert not (tmp_path / ".venv").exists()
