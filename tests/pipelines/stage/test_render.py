"""Tables as text, each to the letter."""

import polars as pl

from pipelines.stage.render import aligned_table, frame_lines, markdown_table


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
