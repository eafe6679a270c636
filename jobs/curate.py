"""Keep, correct or drop each scored triplet, with its reason."""

import sys
from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, StageOptions, print_frame, print_versions


def main(
    *,
    from_: Annotated[
        str | None, Parameter("--from", help="scored_triplets@version; the newest complete one if not given")
    ] = None,
    teacher: Annotated[str | None, Parameter("--teacher", help="whose scores; else the completed teacher's")] = None,
    partial: Annotated[bool, Parameter("--partial", help="curate although not all triplets are scored")] = False,
    dry_run: Annotated[bool, Parameter("--dry-run", help="print the counts by source and reason, and stop")] = False,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    from jobs.versions import version_to_read
    from pipelines import curate

    recipe, tables = stage.load(writes=not dry_run)
    scored = version_to_read(tables, "scored_triplets", from_)
    curated = curate.run(scored, recipe.curate, teacher=teacher, partial=partial, dry_run=dry_run)
    if curated.version is None:
        print_frame(curated.counts, as_json)
    else:
        print_frame(curated.counts, file=sys.stderr)
        print_versions([curated.version], as_json)
