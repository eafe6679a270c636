"""A root and a version as a notebook shows them: what is there, what made it, first rows; every text is escaped."""

from html import escape
from typing import TYPE_CHECKING

import polars as pl

from pipelines.stage.errors import UserError
from pipelines.stage.printable import on_one_line
from pipelines.stage.terminal import cut
from schemas import TABLES

if TYPE_CHECKING:
    from pipelines.storage.tables import Tables
    from pipelines.storage.versions import TableVersion

FIRST_ROWS, LONGEST_TEXT, LONGEST_NOTE = 5, 60, 200


def shown_root(tables: "Tables") -> str:
    """HTML: the newest version of each table, its rows and what made it."""
    rows = [row for name in TABLES if (row := _newest(tables, name))]
    header = "<tr><th>newest version</th><th>rows</th><th>made</th></tr>"
    heading = f"<div>{'tables' if rows else 'no tables'} under {escape(tables.uri)}</div>"
    return f"{heading}<table><thead>{header}</thead><tbody>{''.join(rows)}</tbody></table>" if rows else heading


def _newest(tables: "Tables", name: str) -> str:
    """A row on a table; what cannot be read any more is said in its place, and "" where there is no such table."""
    told = name
    try:
        version = tables.latest(name)
        told = str(version)
        return f"<tr><td>{told}</td><td>{version.num_rows():,}</td><td>{_made(version)}</td></tr>" if version else ""
    except UserError as error:
        return f'<tr><td>{told}</td><td colspan="2">{escape(str(error))}</td></tr>'


def shown(version: "TableVersion") -> str:
    """HTML. What cannot be read any more is said in its place."""
    heading = f"<b>{escape(str(version))}</b> under {escape(version.tables.uri)}"
    try:
        return f"<div>{heading}: {version.num_rows():,} rows, made {_made(version)}</div>{_first_rows(version)}"
    except UserError as error:
        return f"<div>{heading}: {escape(str(error))}</div>"
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        from pipelines.storage.damage import why_damaged_inside  # which knows versions

        if (why := why_damaged_inside(version)) is None:
            raise
        return f"<div>{heading} {escape(why)}</div>"


def _made(version: "TableVersion") -> str:
    commit = version.commit
    if not commit.is_ours:
        return f"by another program ({escape(commit.operation or 'an unknown operation')})"
    inputs = ", ".join(one.version for one in commit.inputs)
    note = f"; note: {cut(on_one_line(commit.note), LONGEST_NOTE)}" if commit.note else ""
    return escape(f"by {commit.stage}{f' from {inputs}' if inputs else ''}{note}")


def _first_rows(version: "TableVersion") -> str:
    """A table of all columns with their types."""
    rows = version.scan().head(FIRST_ROWS).collect()
    header = "".join(f"<th>{escape(name)}<br><small>{escape(str(of))}</small></th>" for name, of in rows.schema.items())
    cells = [[f"<td>{escape(cut(on_one_line(value), LONGEST_TEXT))}</td>" for value in row] for row in rows.iter_rows()]
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
