"""Keep, correct or drop each scored triplet, with its reason."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from jobs.options import FromScoresOption, JsonOption, StageOptions, TeacherOption, print_curation, print_versions


def main(
    *,
    from_: FromScoresOption = None,
    teacher: TeacherOption = None,
    judgements: Annotated[
        str | None, Parameter("--judgements", help="passage_judgements@version, as relabel printed it, to heed as well")
    ] = None,
    partial: Annotated[bool, Parameter("--partial", help="curate although not all triplets are scored")] = False,
    dry_run: Annotated[bool, Parameter("--dry-run", help="print the counts, and stop")] = False,
    by: Annotated[
        Literal["source", "reason"] | None, Parameter("--by", help="count all sources: a line each, or one a reason")
    ] = None,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    from jobs.versions import scores_to_read
    from pipelines import curate

    recipe, tables = stage.load(writes=not dry_run)
    scored, teacher = scores_to_read(tables, from_, teacher, recipe)
    judged = tables.parse(judgements) if judgements is not None else None
    asked = {"partial": partial, "dry_run": dry_run}
    curated = curate.run(scored, recipe.curate, teacher=teacher, judgements=judged, **asked)
    if curated.version is None:
        print_curation(curated.counts, by, as_json, whole=curated.whole)
    else:
        print_curation(curated.counts, by, file=sys.stderr, whole=curated.whole)
        print_versions([curated.version], as_json)
