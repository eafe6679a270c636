"""Remove a person's rows from every table, version and token cache, for good, and name the models trained on them."""

import json
import sys
from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions, print_frame
from pipelines.stage.disk import check_writable

INTERRUPTED = "interrupted; the same command erases the rest: until it has, rows are left"


def main(
    *,
    external_ids: Annotated[str, Parameter("--external-ids", help="file of external ids, one a line")],
    dry_run: Annotated[bool, Parameter("--dry-run", help="only count")] = False,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    from pipelines.erasure.erase import read_ids, run

    ids, tables = read_ids(external_ids), root.open()
    if not dry_run:
        check_writable(tables.uri, "tables root")
    erased = run(tables, ids, dry_run=dry_run)
    if as_json:
        print(json.dumps({"rows": erased.rows.to_dicts(), "models": erased.models.to_dicts(), "erased": not dry_run}))
    else:
        print_frame(erased.rows)
        print_frame(erased.models)
    if dry_run:
        print("nothing was erased (dry run)", file=sys.stderr)
    elif len(erased.models):
        concerned = ", ".join(erased.models["model"].unique(maintain_order=True))
        print(f"trained on erased rows, and not to be made again as they were: {concerned}", file=sys.stderr)
