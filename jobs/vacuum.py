"""Say which files of old versions nothing keeps, and what each pin costs; with --yes, delete them."""

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions, plain_number, print_frame
from pipelines.stage.disk import check_writable
from pipelines.stage.errors import UserError
from pipelines.stage.printable import counted

LEAST_DAYS = 1
INTERRUPTED = "interrupted; what was deleted is gone, and the same command deletes the rest"


def main(
    *,
    yes: Annotated[bool, Parameter("--yes", help="delete them; without it nothing is done")] = False,
    retention_days: Annotated[
        float,
        Parameter("--retention-days", converter=plain_number, help="keep what was the newest, or written, within them"),
    ] = 7.0,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    from pipelines.inspection.pins import pins
    from pipelines.storage.vacuum import plan

    tables = root.open()
    if retention_days < LEAST_DAYS:
        raise UserError(
            f"--retention-days {retention_days:g}: files that a command is writing now belong to no version yet; "
            f"expected at least {LEAST_DAYS}"
        )
    if yes:
        check_writable(tables.uri, "tables root")
    planned = plan(tables, pins(tables), retention_days * 24 * 3600)
    by_pin, by_table = planned.by_pin(), planned.by_table()
    if as_json:
        print(json.dumps({"pins": by_pin.to_dicts(), "tables": by_table.to_dicts(), "deleted": yes}))
    else:
        print_frame(by_pin)
        print_frame(by_table)
    if yes:
        planned.remove()
    num_files, num_bytes = (int(by_table[f"{unit}s_to_remove"].sum()) for unit in ("file", "byte"))
    total = f"{counted(num_files, 'file')}, {counted(num_bytes, 'byte')}"
    told = f"deleted: {total}" if yes else f"to delete: {total}; to do it: add --yes"
    print(told if num_files else _nothing(planned.next_at(), retention_days), file=sys.stderr)


def _nothing(next_at: float | None, retention_days: float) -> str:
    """Why nothing goes, and from when on something would."""
    if next_at is None:
        return "nothing to delete: each file is of a newest version or pinned"
    until = f"{datetime.fromtimestamp(next_at, UTC):%Y-%m-%d %H:%M} UTC"
    return (
        f"nothing to delete yet: the {retention_days:g} days of retention keep what could go, the first until {until}"
    )
