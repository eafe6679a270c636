"""A picture in the page: named, in the page's own colours, with ids of its own, and never of too many points."""

import re
import xml.etree.ElementTree as ElementTree

import altair as alt
import polars as pl
import pytest

from pipelines.report import charts
from pipelines.report.svg import COLOURS, MOST_POINTS, drawn, standalone

BINS = pl.DataFrame({"low": [0.0, 1.0], "high": [1.0, 2.0], "rows": [3, 5]})
HOSTILE = "<script>&\u202e"


@pytest.fixture(scope="module")
def picture():
    return charts.histogram(BINS, HOSTILE.strip("\u202e"), "A sentence.", "axis", lines=[charts.Line(0.5, "rule")])


def test_it_is_an_image_with_a_name_and_its_colours_are_the_pages(picture):
    root = ElementTree.fromstring(drawn(picture, 1))

    assert (root.get("role"), root.get("aria-label")) == ("img", "<script>&")
    assert root.find("{http://www.w3.org/2000/svg}title").text == "<script>&"
    colours = {one.get(name) for one in root.iter() for name in ("fill", "stroke")} - {None, "none", "transparent"}
    assert colours == {"var(--text)", "var(--grid)", "var(--kept)"}
    assert not {name for one in root.iter() for name in one.attrib} & {"style", "class", "font-family"}
    assert "rule" in "".join(root.itertext())


def test_two_pictures_share_no_id():
    clipped = alt.Chart(BINS).mark_line(clip=True).encode(x="low:Q", y="rows:Q")
    sources = [drawn(charts.Picture(clipped, "t", "s"), number) for number in (1, 2)]
    ids = [set(re.findall(r' id="([^"]+)"', source)) for source in sources]

    assert ids[0]
    assert not ids[0] & ids[1]
    assert all(set(re.findall(r"url\(#([^)]+)\)", source)) <= of for source, of in zip(sources, ids, strict=True))


def test_a_file_of_its_own_has_both_palettes(picture):
    source = standalone(picture)

    assert "prefers-color-scheme: dark" in source
    assert all(f"--{name}:" in source for name in charts.PALETTE)


def test_too_many_points_are_a_slip_of_ours():
    many = pl.DataFrame({"low": [float(at) for at in range(MOST_POINTS + 1)], "rows": 1}).with_columns(
        high=pl.col("low") + 1
    )

    with pytest.raises(AssertionError, match="bin them"):
        drawn(charts.histogram(many, "many", "s", "axis"), 1)


def test_names_that_look_alike_when_cut_stay_two():
    rows = pl.DataFrame({"name": ["x" * 40 + "1", "x" * 40 + "2"], "rows": [1, 2]})
    text = drawn(charts.counts(rows, "t", "s"), 1)

    assert len(set(re.findall(r">(x+…[^<]*)<", text))) == 2


def test_colours_are_seen_on_the_page_in_light_and_dark():
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in COLOURS.read_text().split("@media"))

    for theme in (light, dark):
        for name in ("kept", "corrected", "dropped", "other"):
            assert contrast(theme[name], theme["page"]) >= 3, name
        for name in ("text", "quiet", "link"):
            assert min(contrast(theme[name], theme[under]) for under in ("page", "box")) >= 4.5, name


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio of two colours."""
    lights = []
    for colour in (one, other):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(lights) / min(lights)
