"""A text in any script as the terms that BM25 compares: words, and pairs of characters where words have no spaces.

    "The cats' fish_tank"       the cats fish tank        letters, their marks and digits, in lower case
    "क्या हिन्दी में"                क्या हिन्दी में                nearly Lucene's StandardTokenizer; it keeps "l'été"
    "GPUで猫を飼う", a passage   gpu で猫 猫を を飼 飼う で 猫 を 飼 う
                    a query     gpu で猫 猫を を飼 飼う 猫 飼

Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese: overlapping pairs, as Lucene's CJKAnalyzer. Passages have single
characters as well, so that a query of one finds something; queries only those that are likely to be words, so that
not everything matches. On XQuAD, JaQuAD and KorQuAD (the passage of a question, MRR@10) this gives .958 in Chinese,
.893 in Japanese, .950 in Thai, .933 in Korean, .934 in Hindi; words of letters and digits alone .109, .172, .832, .818
and .738; the words of ICU's dictionaries .954, .894 and .954 in the first three.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

import regex

# Beyond what English and its neighbours are written with; without it, faster re finds the same words, and no folding.
_NOT_PLAIN = re.compile("[^\x00-\x7f£§©«®°±·»À-Þà-ÿα-ρτ-ω‐-‧′€−≤≥]")
_PLAIN_WORD = re.compile(r"[^\W_]+")
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{Mn}\p{Mc}\p{N}]*|\p{Emoji_Presentation}")
# Line_Break=SA: the scripts that Unicode breaks by a dictionary. Korean has spaces, but particles stick to its words.
_UNSPACED = r"[\p{Han}\p{scx=Hiragana}\p{scx=Katakana}\p{Bopomofo}\p{Hangul}\p{Line_Break=SA}]"
_MAY_HAVE_UNSPACED = re.compile("[\u0e00-\u1cff\u2e80-\U0010ffff]")  # a faster look at a text
_STARTS_UNSPACED = regex.compile(_UNSPACED)
_RUN = regex.compile(rf"(?:{_UNSPACED}\p{{M}}*)+|(?:(?!{_UNSPACED}).)+")
_CHARACTER = regex.compile(r"\X")
# May be words: a Han character between others (猫 in 猫を飼う), the first of two of Hangul (책 in 책을).
_MAY_BE_WORD = regex.compile(r"(?<!\p{Han})\p{Han}(?!\p{Han})|(?<!\p{Hangul})\p{Hangul}(?=\p{Hangul}(?!\p{Hangul}))")

# NFKD makes "tm" of ™; the others are apostrophes that count as letters.
_SEPARATORS = regex.compile("[™℠ʹʻʼʾʿ]")
_IGNORED = regex.compile(r"\p{Default_Ignorable_Code_Point}+")  # soft hyphens, joiners, zero-width spaces
# Points and accents that are written or left out as one likes; and tatweel, which only lengthens a line.
_OPTIONAL = regex.compile(r"ـ|(?<=[\p{Arabic}\p{Hebrew}\p{Syriac}\p{Greek}\p{Cyrillic}ـ])\p{Mn}+")
_STANDARD = {
    "ı": "i",  # Turkish; İ is an i whose dot goes
    "ى": "ي", "ی": "ي", "ے": "ي", "ک": "ك", "ہ": "ه", "ة": "ه",  # Lucene's Arabic and Persian normalisation
    "ൺ": "ണ്", "ൻ": "ന്", "ർ": "ര്", "ൽ": "ല്", "ൾ": "ള്", "ൿ": "ക്", "ৎ": "ত্",  # before Unicode 5.1: with a joiner
}  # fmt: skip
_VARIANT = regex.compile(rf"(?V1)[{''.join(_STANDARD)}[\p{{Nd}}--[0-9]]]")


def passage_terms(text: str) -> list[str]:
    """The terms of a passage, in order, repetitions included."""
    return _terms(text, of_query=False)


def query_terms(text: str) -> list[str]:
    """The terms by which a query finds passages."""
    return _terms(text, of_query=True)


def _terms(text: str, *, of_query: bool) -> list[str]:
    if text.isascii() or not _NOT_PLAIN.search(text):
        return _PLAIN_WORD.findall(text.lower())
    folded = _folded(text)
    words: list[str] = _WORD.findall(folded)
    if not _MAY_HAVE_UNSPACED.search(folded):
        return words
    return [term for word in words for run in _RUN.findall(word) for term in _terms_of_run(run, of_query)]


def _terms_of_run(run: str, of_query: bool) -> Iterator[str]:
    if not _STARTS_UNSPACED.match(run):
        yield run
        return
    characters = _CHARACTER.findall(run)
    yield from map("".join, pairwise(characters))
    yield from _MAY_BE_WORD.findall(run) if of_query and len(characters) > 1 else characters


def _folded(text: str) -> str:
    """One spelling for what Unicode, a script's writers and their keyboards spell in several ways; accents are kept."""
    text = unicodedata.normalize("NFKD", _SEPARATORS.sub(" ", text))
    text = _OPTIONAL.sub("", _IGNORED.sub("", text)).casefold()
    text = unicodedata.normalize("NFC", text).replace("i\u0307", "i")
    folded: str = _VARIANT.sub(lambda variant: _STANDARD.get(variant[0]) or str(unicodedata.decimal(variant[0])), text)
    return folded
