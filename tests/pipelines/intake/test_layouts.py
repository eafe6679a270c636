"""A layout is told by column names; a row is taken whole or has every reason against it."""

import pytest

from pipelines.intake.layouts import CheckedRow, Layout, check_row, tell_layout
from pipelines.stage.errors import UserError

LISTS = Layout("query", "pos", ("neg",))
NUMBERED = Layout("query", "positive", ("negative_1", "negative_2"))
PLAIN = Layout("query", "positive", ("negative",))


@pytest.mark.parametrize(
    ("columns", "named", "layout"),
    [
        ("query positive negative", {}, PLAIN),
        ("anchor positive negative id", {}, Layout("anchor", "positive", ("negative",))),
        ("anchor positive negative_10 negative_2", {}, Layout("anchor", "positive", ("negative_2", "negative_10"))),
        ("query pos neg pos_scores prompt", {}, LISTS),
        (
            "query_id query positive_passages negative_passages",
            {},
            Layout("query", "positive_passages", ("negative_passages",)),
        ),
        (
            "query positive negative source external_id",
            {},
            Layout("query", "positive", ("negative",), "source", "external_id"),
        ),
        (
            "q doc bad key query",
            {"query": "q", "positive": "doc", "negative": "bad", "external_id": "key"},
            Layout("q", "doc", ("bad",), None, "key"),
        ),
        ("query doc negative_1", {"positive": "doc"}, Layout("query", "doc", ("negative_1",))),
        (
            "query positive negative",
            {"query": "positive", "positive": "query"},
            Layout("positive", "query", ("negative",)),
        ),
    ],
)
def test_a_layout_is_told_by_its_columns(columns, named, layout):
    assert tell_layout("f", columns.split(), named) == layout


def test_pairs_need_no_negative():
    assert tell_layout("f", ["question", "answer"], {"query": "question", "positive": "answer"}, pairs=True) == Layout(
        "question", "answer", ()
    )


@pytest.mark.parametrize(
    ("columns", "named", "said"),
    [
        (
            "query answer negative",
            {},
            r"no column for positive; found the columns query, answer, negative; expected.*--columns",
        ),
        ("query positive", {}, "no column for negative"),
        ("query positive negative", {"query": "q"}, "no column q; found the columns query"),
        ("query positive negative", {"text": "q"}, "--columns names text, expected role=column"),
        ("query positive negative", {"query": "x", "positive": "x"}, "query=x,positive=x gives one column two roles"),
    ],
)
def test_an_unknown_layout_names_the_columns_found_and_what_to_type(columns, named, said):
    with pytest.raises(UserError, match=said):
        tell_layout("train.csv", columns.split(), named)


@pytest.mark.parametrize(
    ("value", "layout", "positives", "negatives"),
    [
        ({"query": "q", "positive": "p", "negative": "n"}, PLAIN, ["p"], ["n"]),
        ({"query": "q", "positive": ["p", "r"], "negative": [{"text": "n"}]}, PLAIN, ["p", "r"], ["n"]),
        ({"query": "q", "pos": ["p"], "neg": ["m", "n"]}, LISTS, ["p"], ["m", "n"]),
        (
            {"query": "q", "pos": [{"docid": "1", "title": "T", "text": "x"}], "neg": [{"title": "", "text": "n"}]},
            LISTS,
            ["T x"],
            ["n"],
        ),
        ({"query": "q", "positive": "p", "negative_1": None, "negative_2": "n"}, NUMBERED, ["p"], ["n"]),
        ({"query": "q", "positive": " p\u0301 ", "negative": "n"}, PLAIN, [" p\u0301 "], ["n"]),
    ],
)
def test_a_good_row_is_taken_whole_and_its_text_as_it_is(value, layout, positives, negatives):
    assert check_row(value, layout, 100) == CheckedRow("q", positives, negatives, None, None)


@pytest.mark.parametrize(
    ("value", "layout", "reasons"),
    [
        ({}, PLAIN, ["query_missing", "positive_missing", "negative_missing"]),
        ({"query": None, "positive": "p", "negative": "n"}, PLAIN, ["query_missing"]),
        ({"query": " \n", "positive": "", "negative": "n"}, PLAIN, ["query_blank", "positive_blank"]),
        (
            {"query": ["q"], "positive": 3, "negative": True},
            PLAIN,
            "query_wrong_type positive_wrong_type negative_wrong_type".split(),
        ),
        ({"query": "q" * 101, "positive": "p", "negative": "n"}, PLAIN, ["query_too_long"]),
        ({"query": "q", "positive": "\ud800", "negative": "n"}, PLAIN, ["positive_has_lone_surrogate"]),
        ({"query": "q", "positive": "same", "negative": " same\n"}, PLAIN, ["positive_equals_negative"]),
        ({"query": "q", "positive": "café", "negative": "cafe\u0301\u200b"}, PLAIN, ["positive_equals_negative"]),
        ({"query": "\u200b", "positive": "p", "negative": "\u3164"}, PLAIN, ["query_blank", "negative_blank"]),
        (
            {"query": "q", "positive": [{"title": "\ufeff", "text": "\u00ad"}], "negative": "\0"},
            PLAIN,
            ["positive_blank[1]", "negative_blank"],
        ),
        ({"query": "q", "pos": [], "neg": []}, LISTS, ["positive_missing", "negative_missing"]),
        (
            {"query": "q", "pos": ["p", None], "neg": ["n", "", 1]},
            LISTS,
            ["positive_wrong_type[2]", "negative_blank[2]", "negative_wrong_type[3]"],
        ),
        ({"query": "q", "pos": ["p"], "neg": ["n", "p"]}, LISTS, ["positive_equals_negative[2]"]),
        (
            {"query": "q", "pos": [{"title": "t"}], "neg": [{"title": 1, "text": "n"}]},
            LISTS,
            ["positive_wrong_type[1]", "negative_wrong_type[1]"],
        ),
        ({"query": "q", "positive": "p"}, NUMBERED, ["negative_missing"]),
        ({"query": "q", "positive": "p", "negative_1": "n", "negative_2": " "}, NUMBERED, ["negative_blank[2]"]),
    ],
)
def test_a_bad_row_has_every_reason_and_names_the_element(value, layout, reasons):
    assert check_row(value, layout, 100) == reasons


@pytest.mark.parametrize(
    ("given", "taken"), [("a", "a"), (7, "7"), (None, None), ("  ", None), (1.5, ["external_id_wrong_type"])]
)
def test_an_external_id_is_text_or_a_whole_number(given, taken):
    layout = Layout("query", "positive", ("negative",), None, "id")
    checked = check_row({"query": "q", "positive": "p", "negative": "n", "id": given}, layout, 100)

    assert (checked if isinstance(checked, list) else checked.external_id) == taken


LABELLED = Layout("query", "pos", ("neg",), label="label")


@pytest.mark.parametrize(
    "label", [1, True, "1", 3.7, -0.5, None, "good", [1, 0, 0], [1, 0], [2.5, 0, 0], [0.9, 0.1, 0.0]]
)
def test_a_triplets_label_that_does_not_contradict_it_changes_nothing(label):
    row = {"query": "q", "pos": ["p"], "neg": ["m", "n"], "label": label}

    assert check_row(row, LABELLED, 100) == CheckedRow("q", ["p"], ["m", "n"], None, None)


@pytest.mark.parametrize("label", [0, False, "0", 0.0, "false", [0, 1, 0], [1, 1, 0], [False, False, False]])
def test_a_triplets_label_that_contradicts_its_roles_is_a_reason(label):
    row = {"query": "q", "pos": ["p"], "neg": ["m", "n"], "label": label}

    assert check_row(row, LABELLED, 100) == ["label_contradicts_roles"]


@pytest.mark.parametrize(
    ("columns", "named", "pairs", "label"),
    [
        ("query positive label", {}, True, "label"),
        ("query positive Is-Relevant", {}, True, "Is-Relevant"),
        ("query positive score label", {}, True, "label"),
        ("query positive similarity", {}, True, "similarity"),
        ("query positive label", {"label": "none"}, True, None),
        ("query positive label verdict", {"label": "verdict"}, True, "verdict"),
        ("query score positive", {"query": "score"}, True, None),
        ("query positive negative score scores", {}, False, None),  # a teacher's
        ("query positive negative labels", {}, False, "labels"),
    ],
)
def test_a_label_is_told_by_its_name(columns, named, pairs, label):
    assert tell_layout("f", columns.split(), named, pairs=pairs).label == label
