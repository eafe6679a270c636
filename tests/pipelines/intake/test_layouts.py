"""A layout is told by column names; a row is taken whole or has every reason against it."""

from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest

from pipelines.intake.layouts import CheckedRow, Layout, Layouts, check_row, tell_layout
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
        ("Query positive negative", {}, r"""found the columns Query, .*--columns '{"query": "Query"}'"""),
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
        ({"query": "q", "positive": "p", "negative_1": float("nan"), "negative_2": "n"}, NUMBERED, ["p"], ["n"]),
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
        (
            {"query": float("nan"), "positive": float("nan"), "negative": "n"},
            PLAIN,
            ["query_missing", "positive_missing"],
        ),
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
    ("given", "taken"),
    [
        *[("a", "a"), (7, "7"), (10**30, str(10**30)), (None, None), ("  ", None), (float("nan"), None), (7.0, "7")],
        *[(Decimal("12.00"), "12"), (date(2026, 11, 27), "2026-11-27"), (UUID(int=1), str(UUID(int=1)))],
        *[(bad, ["external_id_wrong_type"]) for bad in (1.5, True, float("inf"), 2.0**60, Decimal("1.5"), b"x", ["a"])],
    ],
)
def test_an_external_id_is_text_or_a_whole_number_or_a_date_or_none(given, taken):
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
        ("query positive isRelevant", {}, True, "isRelevant"),
        ("query positive judgement", {}, True, "judgement"),
        ("query positive human_score", {}, True, "human_score"),
        ("query positive human_score score", {}, True, "score"),
        ("query positive negative ce_score", {}, False, None),
        ("query positive label", {"label": "none"}, True, None),
        ("query positive label verdict", {"label": "verdict"}, True, "verdict"),
        ("query score positive", {"query": "score"}, True, None),
        ("query positive negative score scores", {}, False, None),  # a teacher's
        ("query positive negative labels", {}, False, "labels"),
    ],
)
def test_a_label_is_told_by_its_name(columns, named, pairs, label):
    assert tell_layout("f", columns.split(), named, pairs=pairs).label == label


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"query": "q", "positive": "p", "negative": "n", "id": 1}, PLAIN),
        ({"anchor": "q", "positive": "p", "negative": "n", "query": None}, Layout("anchor", "positive", ("negative",))),
        (
            {"query": "q", "positive": "p", "negative": "n", "negative_3": "m", "source": "s"},
            Layout("query", "positive", ("negative", "negative_3"), "source"),
        ),
        ({"query": "q", "pos": ["p"], "negative_passages": ["n"]}, Layout("query", "pos", ("negative_passages",))),
    ],
)
def test_the_keys_of_a_row_that_are_not_null_tell_its_layout_whatever_came_before(row, layout):
    layouts = Layouts("f", None, {})
    assert layouts.of({"key": "other"}) != layout

    assert layouts.of(row) == layouts.of(row) == layout


def test_of_two_columns_for_one_role_the_first_that_is_not_null_counts():
    layouts = Layouts("f", ["query", "anchor", "positive", "negative", "neg", "id"], {"external_id": "id"})

    assert layouts.columns == ["query", "positive", "negative", "id", "anchor", "neg"]
    for row in ({"query": "q", "anchor": None}, {"query": None, "anchor": "q"}, {"query": "q", "anchor": "a"}):
        row |= {"positive": "p", "negative": None, "neg": ["n"], "id": 1}
        assert check_row(row, layouts.of(row), 9) == CheckedRow("q", ["p"], ["n"], None, "1")
    assert layouts.ignored == {"anchor"}
    assert Layouts("f", ["query", "anchor", "positive"], {"query": "query"}, pairs=True).columns == [
        "query",
        "positive",
    ]


def test_named_columns_hold_for_every_row_and_a_row_without_one_lacks_that_role():
    layouts = Layouts("f", None, {"query": "positive", "positive": "doc"})

    assert check_row({"positive": "q", "doc": "p", "neg": "n"}, layouts.of({"positive": 1, "doc": 1, "neg": 1}), 9) == (
        CheckedRow("q", ["p"], ["n"], None, None)
    )
    row = {"query": "q", "positive": "p"}
    assert check_row(row, layouts.of(row), 9) == ["positive_missing", "negative_missing"]


def test_keys_without_a_layout_are_refused_once_all_were_seen_and_all_ignored_ones_are_known():
    layouts = Layouts("f", None, {})
    for row in ({"query": "q", "positive": "p"}, {"anchor": "q", "id": None}, {"query": "q", "anchor": "a"}):
        layouts.of(row)

    assert layouts.ignored == {"anchor", "id"}
    with pytest.raises(UserError, match=r"no column for negative .*found the columns query, positive, anchor, id; "):
        layouts.refuse_if_unknown()
