"""Distinct texts on disk: each once, by ascending id, however they came; nothing is left behind."""

import numpy as np
import pytest

from pipelines.texts import on_disk
from pipelines.texts.ids import text_id
from pipelines.texts.on_disk import DistinctTexts, places

TEXTS = [f"text {number} {'猫' * (number % 3)}" for number in range(50)]
ASCENDING = sorted(TEXTS, key=text_id)


@pytest.mark.parametrize(("texts", "num_bytes"), [(7, 1 << 20), (1000, 100), (1000, 1 << 20)])
def test_texts_stand_once_by_their_ids_whatever_the_buffer(monkeypatch, texts, num_bytes):
    monkeypatch.setattr(on_disk, "BUFFER_TEXTS", texts)
    monkeypatch.setattr(on_disk, "BUFFER_BYTES", num_bytes)
    monkeypatch.setattr(on_disk, "TEXTS_AT_ONCE", 9)
    found = DistinctTexts()
    found.add(TEXTS[30:])
    assert list(found) == sorted(TEXTS[30:], key=text_id)
    found.add(TEXTS * 2)

    assert list(found) == ASCENDING
    assert found.ids.tolist() == [text_id(text).encode() for text in ASCENDING]
    assert (len(found), found.num_bytes) == (50, sum(len(text.encode()) for text in TEXTS))
    assert (found[3], found[-1], found[40:45]) == (ASCENDING[3], ASCENDING[-1], ASCENDING[40:45])
    assert found.read(np.array([4, 2, 4])) == [ASCENDING[4], ASCENDING[2], ASCENDING[4]]
    assert found.positions([ASCENDING[9], "none", ASCENDING[0]]).tolist() == [9, -1, 0]
    assert list(found.only(np.array([1, 8]))) == [ASCENDING[1], ASCENDING[8]]


def test_without_a_text_there_is_nothing():
    found = DistinctTexts()

    assert (list(found), len(found), found.num_bytes, found.positions(["a"]).tolist()) == ([], 0, 0, [-1])


def test_a_text_without_an_encoding_is_refused():
    with pytest.raises(UnicodeEncodeError):
        DistinctTexts().add(["\ud800"])


def test_places_are_those_of_equal_ids_alone():
    assert places(np.array([b"b", b"d"]), np.array([b"a", b"b", b"c", b"d", b"e"])).tolist() == [-1, 0, -1, 1, -1]
