"""infra/docker/: what can be known of the image without building it, which no test does."""

import re
import shlex
import tomllib
from pathlib import Path

from pipelines.stage.cpu_libraries import CPU_LIBRARIES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "docker"
TEXT = re.sub(r"\\\n\s*", "", (FOLDER / "Dockerfile").read_text(encoding="utf-8"))
STEPS = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and not line.startswith("#")]


def arguments(instruction: str) -> list[list[str]]:
    """The words of each instruction of a kind, options left out."""
    found = [shlex.split(rest) for name, rest in STEPS if name == instruction]
    return [[word for word in words if not word.startswith("--")] for words in found]


def test_its_python_is_the_one_that_this_was_written_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert arguments("FROM") == [[f"python:{project['tool']['mypy']['python_version']}-slim-bookworm"]]


def test_it_installs_the_lock_and_so_the_ray_and_torch_that_are_tested():
    (installing,) = [words for words in arguments("RUN") if "requirements.lock" in " ".join(words)]

    assert ["infra/requirements.lock", "/tmp/requirements.lock"] in arguments("COPY")
    assert installing[:2] == ["pip", "install"]
    assert "/tmp/requirements.lock" in installing
    assert "+" not in re.search(r"^torch==(\S+)$", (ROOT / "infra" / "requirements.lock").read_text(), re.M)[1]


def test_what_it_copies_is_here_and_is_all_that_is_sent_to_the_builder():
    copied = [source for *sources, _ in arguments("COPY") for source in sources]
    lines = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert {"schemas", "pipelines", "jobs"} <= set(copied)
    assert rules[0] == "*"
    assert sorted(rule[1:] for rule in rules if rule.startswith("!")) == sorted(copied)


def test_nothing_runs_as_root_from_the_first_install_on():
    instructions = [name for name, _ in STEPS]
    first_pip = next(at for at, (_, rest) in enumerate(STEPS) if "venv" in rest)

    assert arguments("USER") == [["ray"]]
    assert instructions.index("USER") < first_pip


def test_it_holds_no_secret():
    named = [word for words in [*arguments("ENV"), *arguments("ARG")] for word in words]

    assert [word for word in named if re.match(r"\w*(SECRET|TOKEN(?!IZER)|PASSWORD|KEY)\w*=", word)] == []
    assert not re.search(r"://[^/\s]*@", TEXT)


def test_its_libraries_are_set_as_ours():
    environment = dict(word.split("=", 1) for words in arguments("ENV") for word in words)

    assert environment.items() >= CPU_LIBRARIES.items()
