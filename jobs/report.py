"""One page to open or to mail: what the teacher said, what was lost, what the model is worth."""

from typing import Annotated

from cyclopts import Parameter

from jobs.options import RootOptions

INTERRUPTED = "interrupted; nothing was written, and the same command begins again"


def main(
    *,
    to: Annotated[str, Parameter("--to", help="HTML file to write; a report that is there is replaced")],
    from_: Annotated[
        str | None, Parameter("--from", help="curated_triplets@version; the newest whole one if not given")
    ] = None,
    against: Annotated[
        str | None, Parameter("--against", help="curated_triplets@version to compare with: what moved since")
    ] = None,
    model: Annotated[
        list[str] | None, Parameter("--model", consume_multiple=1, help="NAME or NAME@12hex; else those of the version")
    ] = None,
    root: RootOptions = RootOptions(),
) -> None:
    from jobs.versions import version_to_read
    from pipelines.report.write import check_target, write_report

    tables = root.open()
    target = check_target(to)
    curated = version_to_read(tables, "curated_triplets", from_)
    before = tables.parse(against) if against is not None else None
    print(write_report(tables, curated, target, before=before, models=model or ()))
