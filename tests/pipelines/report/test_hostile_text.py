"""Texts as a page shows them: what is hidden is seen, what is long is cut, and what is plain stays as it is."""

import pytest

from pipelines.report.hostile_text import pieces, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, œuvre, 質問 <b>&amp;", ["plain words, œuvre, 質問 <b>&amp;"]),
        ("a\u202eb", ["a", "U+202E", "b"]),
        ("\u200b\x00\x1b", ["U+200B", "U+0000", "U+001B"]),
        ("tab\tand\nline", ["tab and line"]),
        ("\u3164\u2800", ["U+3164", "U+2800"]),  # letters and symbols that look like nothing
        ("\U000e0041", ["U+E0041"]),  # a tag character, as prompts are smuggled in
        ("שלום", ["שלום"]),
        ("e\u0301\u0301\u0301", ["e\u0301\u0301\u0301"]),
        ("e" + "\u0301" * 50 + "f", ["e\u0301\u0301\u0301", "more marks", "f"]),
    ],
)
def test_hidden_characters_are_named_and_others_stay(text, shown):
    assert [piece.text for piece in pieces(text)] == shown


def test_a_long_text_is_cut_and_what_is_left_out_is_counted():
    assert list(pieces("x" * 5_000, 10)) == [("x" * 10, False), ("… 4,990 more characters", True)]
    assert plain("x" * 5_000, 10) == "x" * 10 + "…"
    assert plain("a\u202eb") == "a<U+202E>b"
