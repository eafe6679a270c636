"""Texts that UTF-8 cannot hold."""

import pytest

from pipelines.texts.ids import encoding_error


@pytest.mark.parametrize("text", ["", "plain", "\u00e9\u732b", "\U0001f408"])
def test_a_text_of_whole_characters_can_be_encoded(text):
    assert encoding_error(text) is None


def test_half_a_surrogate_pair_is_told_with_its_place():
    assert encoding_error("a \ud83d cat") == "UnicodeEncodeError: surrogates not allowed at character 2"
