"""Give a version a name, which keeps it from vacuum; without a name, list the tags."""

from typing import Annotated

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions, print_frame
from pipelines.stage.disk import check_writable
from pipelines.stage.errors import UserError


def main(
    name: Annotated[str | None, Parameter(help="of the tag; it serves wherever TABLE@VERSION does")] = None,
    version: Annotated[str | None, Parameter(help="TABLE@VERSION that the name stands for")] = None,
    /,
    *,
    remove: Annotated[
        str | None, Parameter("--remove", help="take this tag away: the next vacuum may take more")
    ] = None,
    note: Annotated[str, Parameter("--note", allow_leading_hyphen=True, help="why; kept in the tag")] = "",
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    import polars as pl

    from pipelines.storage.tags import add_tag, all_tags, remove_tag

    tables = root.open()
    if (name is None) != (version is None) or (remove is not None and name is not None):
        raise UserError(
            "expected `python -m jobs tag NAME TABLE@VERSION`, --remove NAME alone, or nothing to list them"
        )
    if remove is not None or name is not None:
        check_writable(tables.uri, "tables root")
    if remove is not None:
        print(remove_tag(tables, remove).version.version)
    elif name is not None and version is not None:
        print(add_tag(tables.parse(version), name, note).version.version)
    else:
        told = [
            {"tag": tag.name, "version": tag.version.version, "at": tag.at, "note": tag.note}
            for tag in all_tags(tables)
        ]
        print_frame(pl.DataFrame(told, schema=dict.fromkeys(("tag", "version", "at", "note"), pl.String)), as_json)
