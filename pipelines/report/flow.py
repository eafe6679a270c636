"""A flow of counts as a picture: what rows were stands left, what they are now right, a ribbon between as wide as rows.

    before, after, rows  --gathered-->  a few names a side  --flow-->  nodes and ribbons, as one chart

Every name has room for its two lines, so that a stream of one row can be read beside one of a million.
"""

from typing import Literal, NamedTuple

import altair as alt
import polars as pl

from pipelines.report.charts import OF_OUTCOME, PALETTE, WIDTH, Picture
from pipelines.report.hostile_text import plain

MOST_REASONS = 7
"""Reasons that have a name of their own, the commonest; a picture's names do not fit a phone when there are more."""

BODY = 170  # pixels that all rows of a side take
SLOT, GAP = 26, 6  # pixels: two lines of text, and what lies between two names
EDGE = 0.02  # of the width: half of a bar
THIN = 1.0  # pixels: a ribbon of few rows is seen, too
ORDER = [*OF_OUTCOME, "absent"]
COLOURS = {**OF_OUTCOME, "absent": PALETTE["other"]}


class Node(NamedTuple):
    """What rows were, or are now."""

    name: str  # kept, corrected:REASON, dropped:REASON or absent
    rows: int
    low: float
    high: float


def flow(flows: pl.DataFrame, title: str, sentence: str) -> Picture:
    """The streams, of `gathered` names, coloured by what the rows are now."""
    before, after = _placed(flows, "before"), _placed(flows, "after")
    scale = alt.Scale(domain=[0, max(side[-1].high + SLOT / 2 for side in (before, after))], reverse=True, nice=False)
    y = alt.Y("low:Q", axis=None, scale=scale)
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-EDGE, 1 + EDGE], nice=False))
    colours = alt.Scale(domain=ORDER, range=[COLOURS[name] for name in ORDER])
    colour = alt.Color("outcome:N", scale=colours, legend=None)
    ribbons = (
        alt.Chart(_ribbons(flows, before, after))
        .mark_area(interpolate="basis", opacity=0.4, strokeWidth=THIN)
        .encode(x=x, y=y, y2="high:Q", color=colour, stroke=colour, detail="stream:N")
    )
    nodes = pl.concat([_shown(before, 0.0), _shown(after, 1.0)])
    left = alt.X("left:Q", axis=None)
    bars = alt.Chart(nodes).mark_rect().encode(x=left, x2="right:Q", y=y, y2="high:Q", color=colour)
    layers: list[alt.Chart] = [ribbons, bars]
    sides: tuple[tuple[float, Literal["left", "right"]], ...] = ((0.0, "left"), (1.0, "right"))
    for place, align in sides:
        named, dx = alt.Chart(nodes.filter(pl.col("x") == place)), 8 if align == "left" else -8
        text = named.mark_text(align=align, dx=dx, dy=-6, baseline="middle", lineBreak="\n", color=PALETTE["text"])
        layers.append(text.encode(x=x, y=alt.Y("middle:Q"), text="told:N"))
    height = int(scale.domain[1])
    return Picture(alt.layer(*layers).properties(width=WIDTH, height=height), title, sentence)


def gathered(flows: pl.DataFrame) -> pl.DataFrame:
    """before, after, rows: rare reasons of an outcome together as `OUTCOME:others`."""
    sides = pl.concat([flows.select("rows", name=side) for side in ("before", "after")])
    reasons = sides.filter(pl.col("name").str.contains(":")).group_by("name").agg(pl.col("rows").sum())
    rare = reasons.sort("rows", "name", descending=[True, False])["name"].slice(MOST_REASONS)
    names = {name: f"{name.partition(':')[0]}:others" for name in rare}
    named = flows.with_columns(pl.col("before", "after").replace(names))
    return named.group_by("before", "after").agg(pl.col("rows").sum())


def _placed(flows: pl.DataFrame, side: str) -> list[Node]:
    """The names of a side below each other: by outcome, the commonest first."""
    rows = dict(flows.group_by(side).agg(pl.col("rows").sum()).iter_rows())
    names = sorted(rows, key=lambda name: (ORDER.index(name.partition(":")[0]), -rows[name], name))
    of_row, top, placed = BODY / sum(rows.values()), 0.0, list[Node]()
    for name in names:
        tall = max(THIN, rows[name] * of_row)
        slot = max(tall, SLOT)
        low = top + (slot - tall) / 2
        placed.append(Node(name, rows[name], low, low + tall))
        top += slot + GAP
    return placed


def _ribbons(flows: pl.DataFrame, before: list[Node], after: list[Node]) -> pl.DataFrame:
    """stream, outcome (now), x, low, high: four points a stream, which leave and arrive level."""
    count = {(left, right): rows for left, right, rows in flows.select("before", "after", "rows").iter_rows()}
    tops = {name: [node.low for node in side] for name, side in (("before", before), ("after", after))}
    points = []
    for from_, left in enumerate(before):
        for to, right in enumerate(after):
            if rows := count.get((left.name, right.name)):
                start, end = tops["before"][from_], tops["after"][to]
                tall = [(node.high - node.low) * rows / node.rows for node in (left, right)]
                tops["before"][from_] += tall[0]
                tops["after"][to] += tall[1]
                told = f"{left.name} -> {right.name}", right.name.partition(":")[0]
                points += [(*told, x, start, start + tall[0]) for x in (0.0, 1 / 3)]
                points += [(*told, x, end, end + tall[1]) for x in (2 / 3, 1.0)]
    return pl.DataFrame(points, ["stream", "outcome", "x", "low", "high"], orient="row")


def _shown(side: list[Node], x: float) -> pl.DataFrame:
    """The nodes of a side as a thin bar at its edge, and what is written beside it."""
    rows = []
    for node in side:
        outcome, _, reason = node.name.partition(":")
        told = f"{outcome} {node.rows:,}" + (f"\n{plain(reason, 26)}" if reason else "")
        rows.append((outcome, told, x, x - EDGE, x + EDGE, node.low, node.high, (node.low + node.high) / 2))
    return pl.DataFrame(rows, ["outcome", "told", "x", "left", "right", "low", "high", "middle"], orient="row")
