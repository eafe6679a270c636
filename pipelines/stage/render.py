"""Tables as text: a frame as `query` prints it, aligned columns of ready text, Markdown with every cell escaped."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from rich.cells import cell_len

from pipelines.stage.printable import on_one_line
from pipelines.stage.terminal import cut

BAR = "█▒░"
LEGEND = "█kept ▒corrected ░dropped"
WIDEST_TABLE = 200
NARROWEST_COLUMN = 12  # on average; where there is less room, one value a line reads better


def frame_lines(frame: pl.DataFrame, width: int | None = None) -> Iterator[str]:
    """All rows, as a Markdown-like table, or one value a line where there are many columns, or too many for the width.

    Args:
        width: of the terminal; long texts are wrapped or cut to it. None is a log: nothing has to fit.
    """
    if frame.width <= 10 and (width is None or width >= frame.width * NARROWEST_COLUMN):
        fitting = min(width or WIDEST_TABLE, WIDEST_TABLE)
        yield _laid_out(frame, "ASCII_MARKDOWN", tbl_width_chars=fitting, fmt_str_lengths=80, thousands_separator=",")
        return
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        yield f"-- row {number}"
        for name, value in row.items():
            line = f"{name:<24} {cut(on_one_line(value), 120)}"
            yield cut(line, width) if width else line


def aligned_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of text, two spaces apart and indented by two; nothing is cut or wrapped."""
    frame = pl.DataFrame(list(rows), schema=dict.fromkeys(header, pl.String), orient="row")
    text = _laid_out(frame, "NOTHING", tbl_width_chars=10_000, fmt_str_lengths=10_000)
    return "\n".join(f" {line.rstrip()}" for line in text.splitlines())  # Polars pads each cell by a space


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


def _laid_out(frame: pl.DataFrame, formatting: Any, **options: Any) -> str:
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        fmt_table_cell_list_len=-1,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        tbl_formatting=formatting,
        **options,
    ):
        return str(frame)


def _markdown_cell(value: object) -> str:
    text = "" if value is None else on_one_line(value)
    return html.escape(text, quote=False).replace("|", "\\|").replace("`", "\\`")
