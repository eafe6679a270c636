"""The terms of texts in many scripts; plain English has the words that it always had."""

import re
from pathlib import Path

import pytest

from pipelines.intake.beir import read_beir
from pipelines.search.terms import passage_terms, query_terms

BEIR = Path(__file__).parents[4] / "shared" / "data" / "beir"


def words_before(text):
    """What BM25 compared when it knew English alone."""
    return re.findall(r"[^\W_]+", text.lower())


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The CATS' snake_case studies, in 2 buses", "the cats snake case studies in 2 buses"),
        ("कृपया हिन्दी में क्‍या", "कृपया हिन्दी में क्या"),  # vowel signs and viramas are part of words, a joiner is not
        ("தமிழ் இலக்கியம்", "தமிழ் இலக்கியம்"),
        ("বাংলা ভাষা", "বাংলা ভাষা"),
        ("അവൻ അവന്\u200d হঠাৎ হঠাত্\u200d", "അവന് അവന് হঠাত্ হঠাত্"),
        ("བོད་སྐད", "བོད སྐད"),
        ("مُحَمَّدٌ محـمد مکتبة ۱۴ ہے", "محمد محمد مكتبه 14 هي"),
        ("می\u200cخواهم", "ميخواهم"),
        ("שָׁלוֹם צה״ל", "שלום צה ל"),
        ("за́мок Ёлка", "замок елка"),
        ("ΑΘΗΝΑ Αθήνας", "αθηνα αθηνασ"),
        ("Straße İstanbul IŞIK ışık", "strasse istanbul işik işik"),
        ("l'été d’été Hawaiʻi", "l été d été hawai i"),
        ("café cafe\u0301 cafe", "café café cafe"),  # spelled two ways; an accent makes another word
        ("Việt Vie\u0323\u0302t", "việt việt"),
        ("ＧＰＵ２ ﬁne x² Foo™ it´s", "gpu2 fine x2 foo it s"),
        ("co\u00adope\u200bra\u2060te", "cooperate"),
        ("२०२४ ٢٠٢٤", "2024 2024"),
        ("go 😀👩\u200d🚀", "go 😀 👩 🚀"),
        ("\u0301 \u200b ー!?", "ー"),
    ],
)
def test_words_are_those_of_the_script_in_one_spelling(text, terms):
    assert passage_terms(text) == query_terms(text) == terms.split()


@pytest.mark.parametrize(
    ("text", "of_passage", "of_query"),
    [
        ("GPUで猫を飼う", "gpu で猫 猫を を飼 飼う で 猫 を 飼 う", "gpu で猫 猫を を飼 飼う 猫 飼"),
        ("機械学習、AI", "機械 械学 学習 機 械 学 習 ai", "機械 械学 学習 ai"),
        ("猫", "猫", "猫"),
        ("ｶﾞｰﾄﾞ", "ガー ード ガ ー ド", "ガー ード"),
        ("책을 2월에", "책을 책 을 2 월에 월 에", "책을 책 2 월에 월"),
        ("ไทย5G", "ไท ทย ไ ท ย 5g", "ไท ทย 5g"),
        ("ខ្មែរ", "ខ្មែរ ខ្មែ រ", "ខ្មែរ"),  # two of what a reader calls a character
        ("မြန်မာ", "မြန် န်မ မာ မြ န် မ ာ", "မြန် န်မ မာ"),
        ("ລາວ", "ລາ າວ ລ າ ວ", "ລາ າວ"),
    ],
)
def test_where_words_have_no_spaces_pairs_of_characters_are_compared(text, of_passage, of_query):
    assert passage_terms(text) == of_passage.split()
    assert query_terms(text) == of_query.split()


@pytest.mark.parametrize(
    "plain",
    ["£§©«®°±·»×÷′€−≤≥", "αβγδεζηθικλμνξοπρτυφχψω", "".join(map(chr, (*range(0xC0, 0x100), *range(0x2010, 0x2028))))],
)
def test_what_english_is_written_with_is_found_as_in_any_other_text(plain):
    text = " ".join(f"a{character}B {character}" for character in plain if character != "ß")

    assert [*passage_terms(text), "fine"] == passage_terms(f"{text} ﬁne")
    assert passage_terms(text) == words_before(text)


@pytest.mark.slow
@pytest.mark.parametrize("data_set", sorted(path.name for path in BEIR.glob("*")))
def test_ascii_texts_have_the_words_they_had(data_set):
    beir = read_beir(BEIR / data_set)
    texts = [text for text in (*beir.corpus.values(), *beir.queries.values()) if text.isascii()]

    assert len(texts) > 100
    for text in texts:
        assert passage_terms(text) == query_terms(text) == words_before(text)
