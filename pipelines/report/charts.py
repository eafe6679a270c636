"""Pictures, declared: a small frame in, an Altair chart out; each with the sentence that says what it shows.

Colours are names (PALETTE), which `svg.py` turns into the page's CSS variables: the reader's light or dark setting
decides. What colour tells, a dash, an order or a label tells as well. Texts of the data pass `hostile_text.plain`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import altair as alt
import polars as pl

from pipelines.report.hostile_text import plain

WIDTH, HEIGHT = 300, 150  # pixels: a picture is no wider than a phone
PALETTE = {  # name -> the colour that stands for it until svg.py has put the variable in its place
    "text": "#010101",
    "grid": "#020202",
    "page": "#070707",
    "link": "#080808",
    "kept": "#030303",
    "corrected": "#040404",
    "dropped": "#050505",
    "other": "#060606",
}
OF_OUTCOME = {"kept": PALETTE["kept"], "corrected": PALETTE["corrected"], "dropped": PALETTE["dropped"]}
SERIES = [PALETTE[name] for name in ("kept", "dropped", "corrected", "other", "text")]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3]]
COUNTS = alt.Axis(format="~s", tickCount=5)
SHARES = alt.Axis(format=".0%", tickCount=4)
PARTS = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])  # of a whole
LEGEND = alt.Legend(title=None, orient="bottom", direction="horizontal", columns=3)
OF_LINES = alt.Legend(
    title=None, orient="bottom", direction="horizontal", columns=3, symbolType="stroke", symbolSize=300
)


class Picture(NamedTuple):
    """A chart and the words without which it is nothing to many readers."""

    chart: alt.TopLevelMixin
    title: str  # its accessible name, short
    sentence: str  # what it shows, with its numbers


class Line(NamedTuple):
    """A threshold to draw in."""

    value: float
    name: str


def histogram(
    bins: pl.DataFrame,
    title: str,
    sentence: str,
    axis: str,
    *,
    lines: Sequence[Line] = (),
    of: str = "rows",
    ends: tuple[float, float] | None = None,
) -> Picture:
    """Bars from low to high, of rows; lines at thresholds, each with its name above.

    Args:
        ends: of the axis, where several are to be compared; else those of the bins.
    """
    ends = ends or ends_of(bins)
    base = alt.Chart(bins.select("low", "high", "rows")).mark_rect(color=PALETTE["kept"])
    bars = base.encode(
        x=alt.X("low:Q", title=axis, scale=alt.Scale(domain=ends, zero=False, nice=False)),
        x2="high:Q",
        y=alt.Y("rows:Q", title=of, axis=COUNTS),
        y2=alt.datum(0),
    )
    return Picture(alt.layer(bars, *_rules(lines, ends)).properties(width=WIDTH, height=HEIGHT), title, sentence)


def outlines(
    bins: pl.DataFrame,
    series: Mapping[str, str],
    title: str,
    sentence: str,
    axis: str,
    *,
    lines: Sequence[Line] = (),
    ends: tuple[float, float] | None = None,
) -> Picture:
    """Steps of several distributions over one axis.

    Args:
        bins: bin (a number), low, high, rows and `series` (of the keys of `series`; shown as its values).
        ends: of the axis, where several pictures are to be compared; else those of the bins.
    """
    ends = ends or ends_of(bins)
    named = _as_steps(bins.select("bin", "low", "high", "rows", series=pl.col("series").replace_strict(series)), "rows")
    steps = (
        alt.Chart(named)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("at:Q", title=axis, scale=alt.Scale(domain=ends, zero=False, nice=False)),
            y=alt.Y("rows:Q", title="rows", axis=COUNTS),
            color=_colours(list(series.values())),
            strokeDash=_dashes(list(series.values())),
        )
    )
    return Picture(alt.layer(steps, *_rules(lines, ends)).properties(width=WIDTH, height=HEIGHT), title, sentence)


def lengths(bins: pl.DataFrame, title: str, sentence: str) -> Picture:
    """Shares of texts by their characters, on an axis of doublings: text, bin, low, high, share."""
    order = ["query", "positive", "negative"]
    scale, ticks = alt.Scale(type="log", base=2, nice=False), alt.Axis(tickCount=6, format=",d")
    steps = (
        alt.Chart(_as_steps(bins.rename({"text": "series"}), "share"))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("at:Q", title="characters", scale=scale, axis=ticks),
            y=alt.Y("share:Q", title="share of texts", axis=SHARES),
            color=_colours(order),
            strokeDash=_dashes(order),
        )
    )
    return Picture(steps.properties(width=WIDTH, height=HEIGHT), title, sentence)


def _as_steps(bins: pl.DataFrame, value: str) -> pl.DataFrame:
    """series, at and the value: a point at each bin's lower edge, and 0 from where a bin without rows begins."""
    edges = [bins.select("bin", at="low"), bins.select(pl.col("bin") + 1, at="high")]
    every = pl.concat(edges).unique("bin", keep="first", maintain_order=True)
    points = every.join(bins.select("series").unique(), how="cross")
    steps = points.join(bins.select("series", "bin", value), on=["series", "bin"], how="left")
    return steps.select("series", "at", pl.col(value).fill_null(0)).sort("series", "at")


def shares(rows: pl.DataFrame, title: str, sentence: str) -> Picture:
    """A bar a name, cut into kept, corrected and dropped: name, outcome, share; in the order of the rows."""
    named = rows.with_columns(name=_shown(rows["name"]))
    order = named["name"].unique(maintain_order=True).to_list()
    place, width = _names(order)
    bars = (
        alt.Chart(named.select("name", "outcome", "share", "place"))
        .mark_bar(height={"band": 0.8}, stroke=PALETTE["page"], strokeWidth=1)
        .encode(
            y=place,
            x=alt.X("share:Q", title="share of rows", axis=PARTS, scale=alt.Scale(domain=[0, 1])),
            color=_of_outcomes(OF_OUTCOME),
            order="place:Q",
        )
    )
    return Picture(bars.properties(width=width, height=max(40, 18 * len(order))), title, sentence)


def counts(rows: pl.DataFrame, title: str, sentence: str) -> Picture:
    """A bar a name, with its number: name, rows, and `outcome` where colours tell it; in the order of the rows."""
    named = rows.with_columns(name=_shown(rows["name"], 28), told=pl.col("rows").map_elements("{:,}".format, pl.String))
    return _bars(named, alt.X("rows:Q", title="rows", axis=COUNTS), title, sentence)


def parts(rows: pl.DataFrame, title: str, sentence: str, axis: str) -> Picture:
    """A bar a name, with the share it has of its own whole: name, share; in the order of the rows."""
    named = rows.with_columns(name=_shown(rows["name"]), told=pl.col("share").map_elements("{:.1%}".format, pl.String))
    return _bars(named, alt.X("share:Q", title=axis, axis=SHARES), title, sentence)


def _bars(named: pl.DataFrame, x: alt.X, title: str, sentence: str) -> Picture:
    place, width = _names(named["name"].to_list())
    base = alt.Chart(named).encode(y=place, x=x)
    numbers = base.mark_text(align="left", dx=3, color=PALETTE["text"]).encode(text="told:N")
    colour = _of_outcomes(named["outcome"]) if "outcome" in named.columns else alt.value(PALETTE["other"])
    bars = base.mark_bar(height={"band": 0.8}).encode(color=colour)
    height = max(40, 18 * len(named))
    return Picture(alt.layer(bars, numbers).properties(width=width - 40, height=height), title, sentence)


def ranks(cells: pl.DataFrame, step: float, names: tuple[str, str], title: str, sentence: str) -> Picture:
    """Where two teachers rank the same triplets: a square of cells, the fuller the darker."""
    corners = cells.with_columns(first_high=pl.col("first") + step, second_high=pl.col("second") + step)
    first, second = (plain(name, 30) for name in names)
    squares = (
        alt.Chart(corners)
        .mark_rect(color=PALETTE["kept"])
        .encode(
            x=alt.X("first:Q", title=f"rank by {first}", axis=SHARES, scale=alt.Scale(domain=[0, 1])),
            x2="first_high:Q",
            y=alt.Y("second:Q", title=f"rank by {second}", axis=SHARES, scale=alt.Scale(domain=[0, 1])),
            y2="second_high:Q",
            opacity=alt.Opacity("rows:Q", scale=alt.Scale(range=[0.04, 1], type="sqrt"), legend=None),
        )
    )
    return Picture(squares.properties(width=220, height=220), title, sentence)


def curves(points: pl.DataFrame, title: str, sentence: str, axis: str) -> Picture:
    """Lines over steps, one a measure; a training stage begins at each rule: step, stage, measure, value."""
    order = points["measure"].unique(maintain_order=True).to_list()
    line = (
        alt.Chart(points.select("step", "value", "stage", series="measure"))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("step:Q", title="step", axis=COUNTS),
            y=alt.Y("value:Q", title=axis, scale=alt.Scale(zero=False)),
            color=_colours(order, show=len(order) > 1),
            strokeDash=_dashes(order, show=len(order) > 1),
            detail="stage:N",
        )
    )
    begins = points.group_by("stage").agg(pl.col("step").min()).sort("step")
    lines = [Line(float(step), plain(stage, 20)) for stage, step in begins.iter_rows()] if len(begins) > 1 else []
    ends = (_end(points["step"].min()), _end(points["step"].max()))
    return Picture(alt.layer(line, *_rules(lines, ends)).properties(width=WIDTH, height=HEIGHT), title, sentence)


def by_dimension(summary: pl.DataFrame, title: str, sentence: str, metric: str) -> Picture:
    """nDCG@10 over dimensions with 95 % intervals, a line a system; systems without vectors are level lines."""
    rows = summary.select("dimension", "low", "high", series="system", value=pl.col(metric))
    order = rows["series"].unique(maintain_order=True).to_list()
    widest = rows.filter(pl.col("dimension") > 0)["dimension"]
    first, last = (_end(widest.min()), _end(widest.max())) if len(widest) else (1.0, 2.0)
    ends = pl.DataFrame({"at": [first, last]})
    level = rows.filter(pl.col("dimension") == 0).drop("dimension").join(ends, how="cross")
    lines = pl.concat(
        [
            rows.filter(pl.col("dimension") > 0).rename({"dimension": "at"}),
            level.select("series", "at", "low", "high", "value"),
        ],
        how="diagonal_relaxed",
    )
    ticks = sorted({*rows.filter(pl.col("dimension") > 0)["dimension"].to_list()})
    base = alt.Chart(lines.select("series", "at", "low", "high", "value")).encode(
        x=alt.X(
            "at:Q",
            title="dimensions",
            scale=alt.Scale(type="log", base=2, nice=False, domain=[first / 1.1, last * 1.1]),
            axis=alt.Axis(values=ticks, format="d"),
        ),
        color=_colours(order),
    )
    is_student = alt.datum.series == "student"
    scale = alt.Scale(domain=[_end(rows["low"].min()), _end(rows["high"].max())], padding=6)
    band = (
        base.transform_filter(is_student)
        .mark_errorbar(ticks=True)
        .encode(y=alt.Y("low:Q", title=metric, scale=scale), y2="high:Q")
    )
    line = base.mark_line(strokeWidth=2, point={"size": 30}).encode(
        y=alt.Y("value:Q", title=metric, scale=scale), strokeDash=_dashes(order)
    )
    return Picture(alt.layer(band, line).properties(width=WIDTH, height=180), title, sentence)


def scatter(rows: pl.DataFrame, x: str, title: str, sentence: str, axis: str, metric: str) -> Picture:
    """A point a model with its interval: name, value, low, high and the column `x`."""
    named = rows.with_columns(name=_shown(rows["name"], 22), x=pl.col(x)).select("name", "x", "value", "low", "high")
    base = alt.Chart(named).encode(x=alt.X("x:Q", title=axis, scale=alt.Scale(zero=False, padding=12)))
    scale = alt.Scale(domain=[_end(rows["low"].min()), _end(rows["high"].max())])
    points = base.mark_point(filled=True, size=60, color=PALETTE["kept"]).encode(
        y=alt.Y("value:Q", title=metric, scale=scale)
    )
    bars = base.mark_rule(color=PALETTE["kept"]).encode(y=alt.Y("low:Q", title=metric, scale=scale), y2="high:Q")
    names = base.mark_text(align="left", dx=6, dy=-6, color=PALETTE["text"]).encode(y="value:Q", text="name:N")
    return Picture(alt.layer(bars, points, names).properties(width=WIDTH, height=HEIGHT), title, sentence)


def graph(nodes: pl.DataFrame, edges: pl.DataFrame, title: str, sentence: str) -> Picture:
    """Nodes below each other, inputs first, with arcs from each to what was made of it.

    Args:
        nodes: label, kind, place (0 is the top), link (`#` and an id of the page; a file has none).
        edges: edge (a number), place, offset: three points each, from a node out to the left and to the other.
    """
    order = ["file", "version", "model"]
    height = max(60, 22 * len(nodes))
    y = alt.Y(
        "place:Q", axis=None, scale=alt.Scale(domain=[-0.5, len(nodes) - 0.5], reverse=True, nice=False, zero=False)
    )
    x = alt.Scale(domain=[-1.05, 2.2], nice=False)
    arcs = (
        alt.Chart(edges)
        .mark_line(interpolate="basis", color=PALETTE["text"], strokeWidth=1, opacity=0.6)
        .encode(x=alt.X("offset:Q", axis=None, scale=x), y=y, detail="edge:N", order="step:O")
    )
    shown = nodes.with_columns(label=_shown(nodes["label"], 40), offset=pl.lit(0.0))
    base = alt.Chart(shown.select("label", "kind", "place", "offset", "link")).encode(
        x=alt.X("offset:Q", axis=None, scale=x), y=y
    )
    shapes = alt.Scale(domain=order, range=["square", "circle", "diamond"])
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(
        color=alt.Color("kind:N", scale=alt.Scale(domain=order, range=SERIES[:3]), legend=None),
        shape=alt.Shape("kind:N", scale=shapes, legend=None),
    )
    files = base.transform_filter(alt.datum.kind == "file").mark_text(align="left", dx=10, color=PALETTE["text"])
    others = base.transform_filter(alt.datum.kind != "file").mark_text(align="left", dx=10, color=PALETTE["link"])
    labels = files.encode(text="label:N"), others.encode(text="label:N", href="link:N")
    return Picture(alt.layer(arcs, dots, *labels).properties(width=WIDTH, height=height), title, sentence)


def _rules(lines: Sequence[Line], ends: tuple[float, float]) -> list[alt.Chart]:
    """Dashed lines across the picture, as far as they lie within the axis; their names stand above it, each higher."""
    within = [line for line in lines if ends[0] <= line.value <= ends[1]]
    charts = []
    for number, line in enumerate(reversed(within)):
        at = (line.value - ends[0]) / ((ends[1] - ends[0]) or 1)
        align: Literal["left", "center", "right"]
        align = "center" if 0.25 < at < 0.75 else "left" if at < 0.5 else "right"  # over its line, within the picture
        row = pl.DataFrame({"value": [line.value], "name": [line.name], "y": [-4.0 - 11.0 * number]})
        base = alt.Chart(row).encode(x="value:Q")
        charts.append(base.mark_rule(color=PALETTE["text"], strokeDash=[4, 3]))
        if line.name:
            name = base.mark_text(align=align, fontSize=9, color=PALETTE["text"], clip=False)
            charts.append(name.encode(y=alt.Y("y:Q", scale=None, title=None), text="name:N"))
    return charts


def ends_of(bins: pl.DataFrame) -> tuple[float, float]:
    """Of the axis of bins, of which there is one at least: the lowest `low`, the highest `high`."""
    return _end(bins["low"].min()), _end(bins["high"].max())


def _end(value: object) -> float:
    """An end of an axis."""
    assert isinstance(value, int | float), f"an axis got {value!r}, expected a number"
    return float(value)


def _shown(names: pl.Series, limit: int = 24) -> pl.Series:
    """Names as a picture may show them; two that look the same when cut stay two."""
    told = [plain(name, limit) for name in names]
    first: dict[str, str] = {}
    for name, shown in zip(names, told, strict=True):
        first.setdefault(shown, name)
    others = {
        name: f"{shown} #{number}"
        for number, (name, shown) in enumerate(zip(names, told, strict=True))
        if first[shown] != name
    }
    return pl.Series([others.get(name, shown) for name, shown in zip(names, told, strict=True)], dtype=pl.String)


def _names(order: list[str]) -> tuple[alt.Y, int]:
    """An axis of names, with room for a wide font, and the width that is left beside it."""
    room = min(185, 20 + int(6.2 * max(map(len, order))))
    axis = alt.Axis(labelLimit=185, ticks=False, domain=False, minExtent=room)
    return alt.Y("name:N", sort=order, title=None, axis=axis), WIDTH - room


def _of_outcomes(outcomes: Iterable[str]) -> alt.Color:
    """Of the column `outcome`: those that there are."""
    there = set(outcomes)
    colours = {name: colour for name, colour in OF_OUTCOME.items() if name in there}
    return alt.Color("outcome:N", scale=alt.Scale(domain=list(colours), range=list(colours.values())), legend=LEGEND)


def _colours(order: list[str], *, show: bool = True) -> alt.Color:
    """Of the column `series`."""
    colours = [SERIES[number % len(SERIES)] for number in range(len(order))]
    return alt.Color("series:N", scale=alt.Scale(domain=order, range=colours), legend=OF_LINES if show else None)


def _dashes(order: list[str], *, show: bool = True) -> alt.StrokeDash:
    """The same series told apart without colours."""
    dashes = [DASHES[number % len(DASHES)] for number in range(len(order))]
    return alt.StrokeDash("series:N", scale=alt.Scale(domain=order, range=dashes), legend=OF_LINES if show else None)
