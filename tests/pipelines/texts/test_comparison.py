"""Which texts are the same: typing variants, Unicode's spellings, invisible characters; and ASCII as it ever was."""

# ruff: noqa: RUF001 - letters that look alike are what this file is about

import unicodedata

import polars as pl
import pytest

from pipelines.texts.comparison import comparison_ids, is_blank, normalise, same_texts, visible, visible_head
from tests.rows import split_of_text


def normalised(*texts: str) -> list[str]:
    return (
        pl.DataFrame({"query": texts}, schema={"query": pl.String})
        .select(normalise(pl.col("query")))["query"]
        .to_list()
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  What IS\tit?\n", "what is it"),
        ("C'est l'ÉTÉ", "c est l été"),
        ("re\u0301sume\u0301", "résumé"),  # combining accents are the composed letters
        ("\uff26\uff55ll\uff0dwidth", "full width"),  # as East Asian keyboards type it
        ("zero\u200bwidth and\u00a0no-break", "zerowidth and no break"),
        ("«ЧТО ЭТО?»", "что это"),
        ("数据库是什么\uff1f", "数据库是什么"),
        ("a_b + c", "a b c"),
    ],
)
def test_normalising_removes_case_punctuation_and_spacing(text, expected):
    assert normalised(text) == [expected]


def test_a_text_of_only_punctuation_is_itself_and_not_empty():
    assert normalised(" ?! ", "...", "🙂") == ["?!", "...", "🙂"]


def test_normalising_twice_changes_nothing():
    once = normalised("İstanbul — ΌΣΟΣ ﬁn", "??", "½ of 10²", "ǅ Straße", "\u1e9b\u0323 ß\u0301 ᾼ")

    assert normalised(*once) == once


TWINS = [
    ("co\u00adoperate", "cooperate"),  # soft hyphen
    ("می\u200cروم", "میروم"),  # zero-width non-joiner
    ("क्\u200dष", "क्ष"),
    ("data\u200bbase", "database"),
    ("\ufeffdata\u2060base", "database"),
    ("\u202bשלום\u202c", "שלום"),  # bidi controls
    ("\u2066a\u2069", "a\u061c"),
    ("❤\ufe0f love", "❤ love"),
    ("葛\U000e0100", "葛"),  # ideographic variation
    ("ᠮ\u180bᠣ\u180e", "ᠮᠣ"),
    ("flag\U000e0067", "flag"),
    ("a\u034fb", "ab"),
    ("Straße", "STRASSE"),
    ("STRAẞE", "strasse"),
    ("İstanbul", "istanbul"),
    ("I\u0307stanbul", "İSTANBUL"),
    ("ışık", "IŞIK"),
    ("ſtone", "stone"),
    ("ΟΔΟΣ", "οδος"),
    ("οδοσ", "οδος"),
    ("ﬁnd", "FIND"),
    ("Ǆ", "ǆ"),
    ("\u212a", "k"),  # kelvin
    ("\u00b5g", "\u03bcg"),
    ("caf\u00e9", "CAFE\u0301"),
    ("ﾃｰﾌﾞﾙ", "テーブル"),
    ("\uff54\uff45\uff53\uff54", "test"),
    ("\u1112\u1161\u11ab", "한"),
    ("Ꮳ", "ꮳ"),  # Cherokee folds to capitals
    ("ß\u0301", "SS\u0301"),
    ("ΰ", "Ϋ\u0301"),
    ("℡", "tel"),
    ("x²", "x2"),
]


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_twins_are_one_question_in_one_split(one, other):
    assert normalised(one) == normalised(other)
    assert comparison_ids([one]) == comparison_ids([other])
    assert split_of_text(one, 0.3, 0.3) == split_of_text(other, 0.3, 0.3)


@pytest.mark.parametrize(
    ("one", "other"), [("resume", "résumé"), ("ö", "oe"), ("海", "海水"), ("क", "का"), ("1", "2"), ("😀", "😁")]
)
def test_different_texts_stay_different(one, other):
    assert normalised(one) != normalised(other)
    assert visible(one) != visible(other)


def test_folding_is_unicodes_case_folding():
    """NFKC, full case folding, no ignorable code point: letters against Python's own tables."""
    letters = [char for char in map(chr, range(0x180, 0x3000)) if char.isalpha() and char not in "\u115f\u1160ı"]
    expected = [unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", char).casefold()) for char in letters]

    wrong = [
        (char, found, right)
        for char, found, right in zip(letters, normalised(*letters), expected, strict=True)
        if " " not in right and found != right.replace("i\u0307", "i").replace("ı", "i")
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "of_wide_shares", "of_small_shares"),
    [
        ("how do i sort a list", "dev", "train"),
        ("What is BM25?", "dev", "train"),
        ("define: entropy", "train", "train"),
        ("C++ vs. C#", "train", "train"),
        ("who won the 1998 World Cup", "test", "test"),
        ("e-mail address of the editor", "train", "train"),
        ("the king's speech", "test", "train"),
        ("???", "train", "train"),
        ("x = y + z", "test", "test"),
        ("How many pounds are in a kilogram?", "dev", "train"),
        ("naïve café", "test", "test"),
        ("数据库是什么？", "test", "test"),
        ("что это", "dev", "train"),
    ],
)
def test_the_split_of_a_plain_question_never_moves(text, of_wide_shares, of_small_shares):
    assert split_of_text(text, 0.3, 0.3) == of_wide_shares
    assert split_of_text(text, 0.1, 0.2) == of_small_shares


@pytest.mark.parametrize(
    "text",
    ["", " \n", "\u200b", "\ufeff", "\u2060", "\u00ad", "\ufe0f", "\u3164", "\u115f\u1160", "\uffa0", "\u180e",
     "\U000e0041\U000e007f", "\u034f", "\u202a\u202c", "\u2800", "\u00a0\u2003\u3000", "\0\x01", "\x7f\x85", "\u2028",
     "\ufff9\ufffb", "\uffff", "\ufdd0", " \u200b\t\u2062 ", "\U0001d173"],
)  # fmt: skip
def test_a_text_that_shows_nothing_is_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "\u200ba", " .", "\u0301", "🙂", "\ue000", "\u0378", "ا", "\ufffd", "\u2801"])
def test_a_text_that_shows_something_is_not_blank(text):
    assert not is_blank(text)


@pytest.mark.parametrize(
    ("one", "other"), [("cat", " cat\n"), ("ca\u00adt", "cat"), ("café", "cafe\u0301"), ("ﬁsh\u00a0a", "fish a\u200b")]
)
def test_the_same_passage_to_a_reader(one, other):
    assert visible(one) == visible(other)


@pytest.mark.parametrize("one", [text for pair in TWINS for text in pair])
def test_what_is_the_same_to_a_reader_begins_alike(one):
    spellings = [one, f"\u200b \ufeff{one}", unicodedata.normalize("NFD", one), f"{one[:1]}\u00ad{one[1:]}", f" {one}"]

    assert len(set(map(visible, spellings))) == len(set(map(visible_head, spellings))) == 1


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("x > 0", "x < 0"), ("a  b", "a b"), ("C", "C++")])
def test_case_punctuation_and_inner_space_are_visible(one, other):
    assert visible(one) != visible(other)


def test_texts_that_are_the_same_are_found_by_their_keys():
    queries = {"q1": "What is it?", "q2": "other", "q3": "what IS it"}

    assert sorted(same_texts(queries, {"a": "what is  it!", "b": "nothing", "c": "it"})) == [("q1", "a"), ("q3", "a")]
    assert list(same_texts({"q": "C#", "r": "?"}, {"a": "C++", "b": "c\uff03\u200b", "c": "c", "d": ""})) == [
        ("q", "b")
    ]
