"""Tables as text: a frame as `query` prints it, aligned columns of ready text, Markdown with every cell escaped."""

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import zip_longest

import polars as pl
from rich.cells import cell_len, set_cell_size

from pipelines.stage.printable import on_one_line
from pipelines.stage.terminal import cut, wrapped

BAR = "█▒░"
LEGEND = "█kept ▒corrected ░dropped"
WIDEST_TABLE = 200
WIDEST_NOTE = 100  # below a table, in a log
LONGEST_CELL, LONGEST_VALUE = 80, 120
NARROWEST_COLUMN = 12  # on average; where there is less room, one value a line reads better


def frame_lines(frame: pl.DataFrame, width: int | None = None) -> Iterator[str]:
    """All rows, as a Markdown-like table, or one value a line where there are many columns, or too many for the width.

    Args:
        width: of the terminal; long texts are wrapped or cut to it. None is a log: nothing has to fit.
    """
    names = [on_one_line(name) for name in frame.columns]
    if frame.width <= 10 and (width is None or width >= frame.width * NARROWEST_COLUMN):
        rows = [[cut(_grouped(value), LONGEST_CELL) for value in row] for row in frame.iter_rows()]
        yield from _wrapped_table(names, rows, min(width or WIDEST_TABLE, WIDEST_TABLE))
        return
    for number, row in enumerate(frame.iter_rows(), 1):
        yield f"-- row {number}"
        for name, value in zip(names, row, strict=True):
            line = f"{name:<24} {cut(_shown(value), LONGEST_VALUE)}"
            yield cut(line, width) if width else line


def _shown(value: object) -> str:
    """A value of a frame as a terminal may show it; lists, structs, true, false and null as JSON."""
    as_json = isinstance(value, list | dict | bool | None)
    return on_one_line(json.dumps(value, ensure_ascii=False, default=str) if as_json else value)


def _grouped(value: object) -> str:
    """As `_shown`, but numbers with their thousands separated, and no more than six decimals."""
    if isinstance(value, float) and not 0 < abs(value) < 1e-4:
        return f"{round(value, 6):,}"
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return f"{value:,}" if is_number else _shown(value)


def _wrapped_table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Columns between bars, on so many columns of the terminal; what has no room goes on in the next line."""
    widths = _widths([*zip(header, *rows, strict=True)], width - 3 * len(header) - 1)
    for row in (header, *rows):
        lines = [wrapped(cell, columns) or [""] for cell, columns in zip(row, widths, strict=True)]
        for cells in zip_longest(*lines, fillvalue=""):
            yield f"| {' | '.join(map(set_cell_size, cells, widths))} |"
        if row is header:
            yield f"|{'|'.join('-' * (columns + 2) for columns in widths)}|"


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """The room shared out: the widest give way first, of ids, names and numbers only if texts would get too narrow."""
    needed = [max(map(cell_len, cells)) for cells in columns]
    kept = [0 if any(" " in cell for cell in cells) else need for cells, need in zip(columns, needed, strict=True)]
    for least, narrowest in ((kept, NARROWEST_COLUMN), ([0] * len(kept), 1)):
        for most in range(max(needed, default=0), narrowest - 1, -1):
            widths = [min(need, max(most, keep)) for need, keep in zip(needed, least, strict=True)]
            if sum(widths) <= room:
                return widths
    return [1] * len(columns)


def aligned_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of text, two spaces apart and indented by two; nothing is cut or wrapped."""
    lines = [header, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(f"  {'  '.join(map(set_cell_size, line, widths))}".rstrip() for line in lines)


def columns_taken(cells: Mapping[str, Sequence[str]]) -> int:
    """What an aligned table takes of these columns, by their headers."""
    return sum(2 + max(map(cell_len, (name, *column))) for name, column in cells.items())


def first_that_fit(cells: Mapping[str, list[str]], room: int) -> dict[str, list[str]]:
    """The first columns that so much room takes, one at least."""
    fitting = dict(cells)
    while columns_taken(fitting) > room and len(fitting) > 1:
        fitting.popitem()
    return fitting


def noted_table(
    cells: Mapping[str, Sequence[str]], notes: Sequence[str], left_out: Sequence[str], width: int | None
) -> list[str]:
    """An aligned table of these columns, below it notes, and which columns the terminal's width left out."""
    missing = [f"Left out: {', '.join(left_out)}; a wider terminal has them, and --json."] if left_out else []
    table = aligned_table([*cells], zip(*cells.values(), strict=True)).split("\n")
    return [*table, *wrapped(" ".join([*notes, *missing]), width or WIDEST_NOTE)]


def curation_lines(sources: pl.DataFrame, width: int | None, *, with_bars: bool) -> list[str]:
    """A line for each of `outcomes.by_source`, cut to a terminal's width; with a bar there, if it has the room."""
    header = ["source", "rows", "kept", "corrected", "dropped", "mostly"]
    rows = [
        [cut(on_one_line(source), 40), f"{n:,}", f"{kept / n:.1%}", f"{corrected:,}", f"{dropped:,}", reason or ""]
        for source, n, kept, corrected, dropped, reason in sources.iter_rows()
    ]
    bars = [_bar(*counts) for counts in sources.select("kept", "corrected", "dropped").iter_rows()]
    barred = [[*row[:-1], bar, row[-1]] for row, bar in zip(rows, bars, strict=True)]
    wide = aligned_table([*header[:-1], LEGEND, header[-1]], barred).split("\n")
    if width and with_bars and max(map(cell_len, wide)) <= width:
        return wide
    return [cut(line, width) if width else line for line in aligned_table(header, rows).split("\n")]


def whole_lines(whole: pl.DataFrame, reasons: Mapping[str, str | None], width: int | None) -> list[str]:
    """A line for each source of `curation/whole.py`, worst first: shares of all its triplets, with 95 % intervals.

    Args:
        reasons: by source, why most of its rows were changed.
    """
    outcomes = ["kept", "corrected", "dropped"]
    rows = [
        [
            cut(on_one_line(row["source"]), 40),
            f"{row['rows']:,} of {row['triplets']:,}",
            f"{row['queries']:,}",
            *(shown_share(row[of], row[f"{of}_low"], row[f"{of}_high"]) for of in outcomes),
            reasons.get(row["source"]) or "",
        ]
        for row in whole.sort("kept", pl.lit(-1) * pl.col("rows"), "source", nulls_last=True).to_dicts()
    ]
    header = ["source", "rows scored", "queries", *(f"{of} [95 %]" for of in outcomes), "mostly"]
    return [cut(line, width) if width else line for line in aligned_table(header, rows).split("\n")]


def shown_share(value: float | None, low: float, high: float) -> str:
    return "not known" if value is None else f"{value:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def _bar(*counts: int) -> str:
    """The shares that the counts have of their sum; a count above 0 is seen."""
    columns = [max(int(count > 0), round(len(LEGEND) * count / sum(counts))) for count in counts]
    columns[counts.index(max(counts))] += len(LEGEND) - sum(columns)
    return "".join(glyph * number for glyph, number in zip(BAR, columns, strict=True))


def markdown_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Cells are escaped, so that no text of the data can become markup."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_markdown_cell, line))} |" for line in lines)


def _markdown_cell(value: object) -> str:
    text = "" if value is None else on_one_line(value)
    return html.escape(text, quote=False).replace("|", "\\|").replace("`", "\\`")
