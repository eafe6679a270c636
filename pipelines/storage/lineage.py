"""Where a commit's record comes from: what a stage states (`Lineage`) and what can be found out about this process."""

import getpass
import hashlib
import json
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from pipelines.storage.commits import NO_RESULT, Code, Commit, Engine, Record
from pipelines.storage.fingerprint import fingerprint
from pipelines.storage.tables import Invocation
from pipelines.storage.versions import TableVersion

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARIES = ("ray", "torch", "transformers", "sentence-transformers", "polars", "pyarrow", "deltalake", "pandera")


@dataclass(frozen=True)
class Lineage:
    """What a stage states about the version it writes."""

    stage: str
    inputs: Sequence[TableVersion]
    config: BaseModel
    result: Record = NO_RESULT
    note: str = ""

    def commit(self, invocation: Invocation, result: Record | None = None) -> Commit:
        """The record; `result` is what came out, where that is known only at the end."""
        return Commit(
            id=uuid.uuid4().hex,
            stage=self.stage,
            inputs=tuple(version.identity() for version in self.inputs),
            config=self.config.model_dump(mode="json"),
            config_fingerprint=fingerprint(self.config),
            recipe=invocation.recipe,
            note=self.note or invocation.note,
            code=code(),
            engine=engine(),
            user=_user(),
            ray_job=_ray_job(),
            result=self.result if result is None else result,
        )


@cache
def code() -> Code:
    """Which sources ran: git commit and whether dirty, and always a digest over every Python source and recipe.

    Without git (Ray's uploaded working directory leaves `.git` out) the commit is the one that `submit` stamped.
    """
    commit, _, dirty = os.environ.get("JOBS_GIT_COMMIT", "").partition("-")
    is_dirty = dirty == "dirty" if commit else None
    if (REPOSITORY / ".git").exists():
        commit = _git("rev-parse", "HEAD")
        is_dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    digest = hashlib.sha256()
    for folder in ("schemas", "pipelines", "jobs"):
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in {".py", ".toml"}:
                digest.update(f"{path.relative_to(REPOSITORY).as_posix()}\0".encode())
                digest.update(path.read_bytes())
    return Code(commit=commit, is_dirty=is_dirty, sources_digest=digest.hexdigest()[:12])


@cache
def engine() -> Engine:
    """Library versions, Python and machine kind: what could change a float."""
    return Engine(
        python=platform.python_version(),
        machine=platform.machine(),
        system=sys.platform,
        processor=_processor(),
        libraries={name: version(name) for name in LIBRARIES},
    )


def _processor() -> str:
    """The CPU's model name where the system tells it: kernels are chosen by it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str:
    """Output of a git command; empty when git is missing or refuses (another owner's folder, no commit yet)."""
    command = ["git", "-C", str(REPOSITORY), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _ray_job() -> str:
    """The submission id of the Ray job that this is, which `ray job logs` takes; "" outside of one.

    Ray tells it only inside the job's config: it takes RAY_JOB_ID out of the environment.
    """
    config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return str(config.get("metadata", {}).get("job_submission_id", ""))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
