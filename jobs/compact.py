"""Merge the small files of tables: the same rows, versions and lineage in fewer files."""

from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions, plain_number, print_versions
from pipelines.stage.disk import check_writable
from pipelines.stage.errors import UserError
from pipelines.stage.printable import counted

LARGEST_MB = 100_000


def main(
    *names: Annotated[str, Parameter(help="tables; all if not given")],
    target_mb: Annotated[
        float, Parameter("--target-mb", converter=plain_number, help="size of the files to make; below half is small")
    ] = 64.0,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    from pipelines.stage.progress import tell
    from pipelines.storage.compact import CompactConfig, compact

    tables = root.open()
    if not 0 < target_mb <= LARGEST_MB:
        raise UserError(f"--target-mb is {target_mb:g}; expected megabytes above 0 and at most {LARGEST_MB:,}")
    check_writable(tables.uri, "tables root")
    done = []
    for before, after in compact(tables, list(names), CompactConfig(target_mb=target_mb)):
        found, left = (len(version.files()) for version in (before, after))
        merged = f"{counted(found, 'file')} of {before}, now {left:,}" if after != before else "nothing to merge"
        tell(f"{after}: {merged}")
        done.append(after)
    print_versions(done, as_json)
