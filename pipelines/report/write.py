"""From a root of tables to one HTML file: everything is gathered first, then the file appears whole or not at all."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipelines.report.gather import gather
from pipelines.report.page import GENERATOR, render
from pipelines.report.subject import Subject
from pipelines.stage.disk import check_writable
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of
from pipelines.storage import Tables, TableVersion


def write_report(
    tables: Tables,
    curated: TableVersion,
    target: Path,
    *,
    before: TableVersion | None = None,
    models: Sequence[str] = (),
) -> Path:
    """Write the report on a curated version. Returns the target.

    Args:
        target: as `check_target` gives it.
        before: another curation, to be compared with.
        models: NAME or NAME@12hex; none is those that were trained on the version.
    Raises:
        UserError: no such model, or a version that no curation made; nothing is written.
    """
    page = render(gather(Subject.find(tables, curated, before, models)))
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, prefix=".report-", delete=False) as file:
        try:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return target


def check_target(to: str) -> Path:
    """The file that will be written. Raises UserError where none can be, or where another file than a report stands."""
    if "://" in to:
        raise UserError(f"--to {to}: expected a file of this machine, for example report.html")
    target = path_of(to, "--to")
    if target.is_dir() or to.endswith("/"):
        raise UserError(f"--to {to} is a folder; expected a file, for example {target / 'report.html'}")
    if not target.parent.is_dir():
        raise UserError(f"--to {to}: there is no folder {target.parent}; make it, or name another file")
    if (target.exists() or target.is_symlink()) and not target.is_file():
        raise UserError(
            f"--to {to} is no file, or a link to none; expected a new file or an earlier report: name another"
        )
    target = target.resolve()
    if target.exists():
        with target.open("rb") as file:
            if f'content="{GENERATOR}"'.encode() not in file.read(1_000):
                raise UserError(
                    f"--to {to} is no report; expected a new file or an earlier report: name another, or remove it"
                )
    check_writable(target.parent, "--to")
    return target


def _umask() -> int:
    """The process's, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
