"""Tables as text, each to the letter."""

import polars as pl
import pytest
from rich.cells import cell_len

from pipelines.stage.render import aligned_table, curation_lines, frame_lines, markdown_table


def test_a_frame_is_a_table_with_separated_thousands_and_null():
    frame = pl.DataFrame({"source": ["wiki", None], "rows": [1234567, -1000], "share": [0.5, None]})

    assert "\n".join(frame_lines(frame)).splitlines() == [
        "| source | rows      | share |",
        "|--------|-----------|-------|",
        "| wiki   | 1,234,567 | 0.5   |",
        "| null   | -1,000    | null  |",
    ]


def test_a_frame_of_many_columns_has_one_value_a_line_none_longer_than_120_characters():
    frame = pl.DataFrame(
        {f"column_{number}": [number * 1000] for number in range(10)} | {"text": ["a\n b" + "x" * 120]}
    )

    lines = list(frame_lines(frame))

    assert lines[:2] == ["-- row 1", "column_0                 0"]
    assert lines[10:] == ["column_9                 9000", "text                     a b" + "x" * 116 + "…"]
    assert list(frame_lines(frame.clear())) == []


HOSTILE = "a\x1b[2J\u202eb\u200b\x9b1m\r\n\tc"
IN_EVERY_KIND = pl.DataFrame(
    {
        HOSTILE: [HOSTILE],
        "list": [[HOSTILE]],
        "deep": [[[{HOSTILE: [HOSTILE]}]]],
        "bytes": [HOSTILE.encode()],
        "category": pl.Series([HOSTILE], dtype=pl.Categorical),
        "enum": pl.Series([HOSTILE], dtype=pl.Enum([HOSTILE])),
        "array": pl.Series([[HOSTILE]], dtype=pl.Array(pl.String, 1)),
    }
)


@pytest.mark.parametrize("columns", range(1, 8))
@pytest.mark.parametrize("width", [None, 250, 100, 20])
def test_no_text_of_the_data_or_name_of_a_column_acts_on_a_terminal_in_any_layout(width, columns):
    lines = list(frame_lines(IN_EVERY_KIND[:, :columns], width))

    assert all(line.isprintable() for line in lines)
    assert "\\u001b" in "".join(lines)


def test_a_table_has_lists_as_json_numbers_to_six_decimals_and_names_that_may_look_alike():
    frame = pl.DataFrame({"a b": [["x", None]], "a\nb": [2 / 3], "c": [1e-12], "d": [True], "e": [float("nan")]})

    assert list(frame_lines(frame)) == [
        "| a b         | a b      | c     | d    | e   |",
        "|-------------|----------|-------|------|-----|",
        '| ["x", null] | 0.666667 | 1e-12 | true | nan |',
    ]
    assert list(frame_lines(frame.clear().select("d"))) == ["| d |", "|---|"]


def test_names_and_numbers_stay_on_their_line_where_texts_can_give_way():
    rows = pl.DataFrame({"text": ["some words " * 5], "model_id": ["docstrings@0123456789ab"], "rows": [1234567]})

    assert list(frame_lines(rows, 60)) == [
        "| text               | model_id                | rows      |",
        "|--------------------|-------------------------|-----------|",
        "| some words some    | docstrings@0123456789ab | 1,234,567 |",
        "| words some words   |                         |           |",
        "| some words some    |                         |           |",
        "| words              |                         |           |",
    ]
    assert list(frame_lines(rows, 40))[2:5] == [
        "| some words | docstrings | 1,234,567 |",
        "| some words | @012345678 |           |",
        "| some words | 9ab        |           |",
    ]


def test_an_aligned_table_cuts_nothing_and_leaves_no_space_at_the_end():
    assert aligned_table(["system", "dim", "vs BM25"], [["student", "8", "x" * 300], ["bm25", "-", ""]]).split(
        "\n"
    ) == [
        "  system   dim  vs BM25",
        "  student  8    " + "x" * 300,
        "  bm25     -",
    ]


def test_no_text_of_the_data_becomes_markup_in_a_markdown_table():
    assert markdown_table(["source", 8], [["<img src=x>|`a`\nb", None]]).split("\n") == [
        "| source | 8 |",
        "| --- | --- |",
        "| &lt;img src=x&gt;\\|\\`a\\` b |  |",
    ]


def test_a_frame_on_a_terminal_is_wrapped_to_it_or_told_value_by_value():
    frame = pl.DataFrame({"source": ["文" * 30], "text": ["word " * 20], "rows": [5]})

    assert max(map(cell_len, "\n".join(frame_lines(frame, 60)).splitlines())) <= 60
    narrow = list(frame_lines(frame, 30))
    assert narrow[0] == "-- row 1"
    assert max(map(cell_len, narrow)) <= 30


def test_curated_sources_are_a_line_each_with_bars_where_there_is_room():
    sources = pl.DataFrame(
        {
            "source": ["rotten", "维基"],
            "rows": [2000, 10],
            "kept": [1000, 10],
            "corrected": [1, 0],
            "dropped": [999, 0],
            "main_reason": ["margin_too_small", None],
        }
    )

    assert curation_lines(sources, None, with_bars=True) == [
        "  source  rows   kept    corrected  dropped  mostly",
        "  rotten  2,000  50.0%   1          999      margin_too_small",
        "  维基    10     100.0%  0          0",
    ]
    wide = curation_lines(sources, 120, with_bars=True)
    assert wide[1].split()[5] == "█" * 12 + "▒" + "░" * 12
    assert wide[2].split()[5] == "█" * 25
    assert max(map(cell_len, curation_lines(sources, 30, with_bars=True))) <= 30
