"""A picture as SVG: rendered by vl-convert, then in the page's own colours, with a name for who cannot see it.

    Picture  --drawn-->      <svg role="img"> (or a group, where it has links) to stand in the page: no script, no
                             style, no font, no id but its own
    Picture  --standalone-->  the same as a file, with both palettes in it

Vega's output is read as XML and written again: colours become CSS variables (`var(--kept)`), so that one picture serves
light, dark and print; ids get a prefix, since all pictures of a page share one space of ids.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import vl_convert
from markupsafe import Markup

from pipelines.report.charts import PALETTE, Picture

MOST_POINTS = 4_000
"""Rows of a chart's data: more are binned before they come here."""

COLOURS = Path(__file__).with_name("colours.css")
SVG = "http://www.w3.org/2000/svg"
LINK = f"{{{SVG}}}a"
HREF = "{http://www.w3.org/1999/xlink}href"
URL = re.compile(r"url\(#([^)]+)\)")
VARIABLES = {colour: f"var(--{name})" for name, colour in PALETTE.items()}
DROPPED = {
    "class",
    "font-family",
    "aria-hidden",
    "aria-roledescription",
    "role",
    "pointer-events",
    "style",
    "stroke-miterlimit",
}
FONT = "Arial, Liberation Sans, sans-serif"
SCALE = 1.2  # of the pixels that a chart is declared in
_TEXT, _GRID = PALETTE["text"], PALETTE["grid"]
_GUIDE = {
    "labelColor": _TEXT,
    "titleColor": _TEXT,
    "titleFontWeight": "normal",
    "labelFontSize": 10,
    "titleFontSize": 11,
}
CONFIG = {
    "aria": False,
    "background": None,
    "font": FONT,
    "padding": {"left": 8, "right": 14, "top": 6, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        **_GUIDE,
        "domainColor": _TEXT,
        "tickColor": _TEXT,
        "gridColor": _GRID,
        "labelOverlap": "greedy",
        "labelSeparation": 6,
    },
    "legend": {
        **_GUIDE,
        "symbolStrokeWidth": 2,
        "symbolOpacity": 1,
        "padding": 0,
        "offset": 4,
        "labelLimit": 90,
        "columnPadding": 6,
    },
    "text": {"fontSize": 10},
}

ElementTree.register_namespace("", SVG)


def drawn(picture: Picture, number: int) -> Markup:
    """The picture as an element of a page, the `number`-th there."""
    root = _tree(picture, f"p{number}-")
    root.set("role", "img" if root.find(f".//{LINK}") is None else "group")  # of an image nothing can be chosen
    root.set("aria-label", picture.title)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # of an XML tree: all text is escaped


def standalone(picture: Picture) -> str:
    """The picture as an SVG file, which follows its reader's setting as the page does."""
    root = _tree(picture, "")
    root.set("role", "img")
    root.set("aria-label", picture.title)
    root.set("font-family", FONT)
    style = ElementTree.Element(f"{{{SVG}}}style")
    style.text = COLOURS.read_text(encoding="utf-8") + "\nsvg { color: var(--text); background: var(--page) }\n"
    root.insert(0, style)
    return ElementTree.tostring(root, encoding="unicode")


def _tree(picture: Picture, prefix: str) -> ElementTree.Element:
    spec = picture.chart.to_dict()
    points = sum(map(len, spec.get("datasets", {}).values()))
    assert points <= MOST_POINTS, f"{picture.title}: {points:,} points, expected at most {MOST_POINTS:,}: bin them"
    root = ElementTree.fromstring(vl_convert.vegalite_to_svg({**spec, "config": CONFIG}))
    for element in _without_frames(root):
        _repaint(element, prefix)
    for side in ("width", "height"):
        root.set(side, f"{SCALE * float(root.get(side, '0')):.0f}")
    title = ElementTree.Element(f"{{{SVG}}}title")
    title.text = picture.title
    root.insert(0, title)
    return root


def _without_frames(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Every element, once the empty ones that Vega puts around groups are gone."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag == f"{{{SVG}}}path" and child.get("class") in ("background", "foreground"):
                parent.remove(child)
    return root.iter()


def _repaint(element: ElementTree.Element, prefix: str) -> None:
    for name, value in list(element.attrib.items()):
        if name in DROPPED or (name, value) == ("opacity", "1"):
            del element.attrib[name]
        elif name in ("fill", "stroke") and value in VARIABLES:
            element.set(name, VARIABLES[value])
        elif name == "id":
            element.set(name, prefix + value)
        elif name in ("href", HREF):  # vl-convert makes a URL of a link's `#curated_triplets@0`
            del element.attrib[name]
            element.set("href", f"#{'' if element.tag == LINK else prefix}{value.partition('#')[2]}")
        elif "url(#" in value:
            element.set(name, URL.sub(rf"url(#{prefix}\1)", value))
        elif name in ("d", "transform", "x2", "y2"):
            element.set(name, _rounded(value))


def _rounded(numbers: str) -> str:
    """Coordinates to a tenth of a pixel: half of the bytes."""
    return re.sub(r"-?\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), numbers)
