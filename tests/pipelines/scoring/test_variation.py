"""Copies of the passages in training: always the same, always another text, of nothing that is held out."""

import pytest

from pipelines.scoring.variation import MOST_REPLACED, PIECE_WORDS, copies_of, distinct_words, varied
from pipelines.stage.errors import UserError
from tests.curated_versions import curated, query_in

WORDS = [f"other{number}" for number in range(50)]
TEXT = " ".join(f"word{number}" for number in range(40))


def test_a_copy_depends_on_its_seed_alone_and_differs_from_its_text():
    copies = [varied(TEXT, str(seed), WORDS) for seed in range(200)]

    assert copies == [varied(TEXT, str(seed), WORDS) for seed in range(200)]
    assert len({TEXT, *copies}) == 201
    assert varied("word", "any seed", ["other"]) == "other"


def test_a_third_are_pieces_as_short_as_queries_and_words_stay_where_they_were():
    copies = [varied(TEXT, str(seed), WORDS).split() for seed in range(600)]
    whole = [copy for copy in copies if len(copy) == 40]
    pieces = [copy for copy in copies if len(copy) < 40]

    assert len(pieces) / len(copies) == pytest.approx(1 / 3, abs=0.06)
    assert {len(piece) for piece in pieces} == set(range(PIECE_WORDS[0], PIECE_WORDS[1] + 1))
    for copy in whole:
        assert all(word in (f"word{place}", *WORDS) for place, word in enumerate(copy))
    replaced = [sum(word in WORDS for word in copy) / 40 for copy in whole]
    assert min(replaced) > 0
    assert sum(replaced) / len(replaced) == pytest.approx(MOST_REPLACED / 2, abs=0.05)
    for piece in pieces:
        kept = [(place, int(word.removeprefix("word"))) for place, word in enumerate(piece) if word not in WORDS]
        assert len({number - place for place, number in kept}) <= 1  # neighbours stay neighbours


def test_words_are_told_by_the_spaces_between_them():
    assert distinct_words(["b  a\tb", "c,\na"]) == ["a", "b", "c,"]


def test_only_what_is_trained_on_is_copied_and_fewer_copies_are_among_more(tmp_path):
    rows = [(query_in("train", n), f"good {n} passage", 5.0, f"bad {n} passage", -5.0) for n in range(3)]
    held_out = (query_in("test"), "unseen passage of a held-out query", 5.0, "unseen negative", -5.0)
    version = curated(tmp_path, [*rows, held_out])

    two, five = ([text for batch in copies_of(version, copies) for text in batch] for copies in (2, 5))

    assert (len(two), len(five)) == (12, 30)
    assert set(two) <= set(five)
    assert "unseen" not in " ".join(five)
    assert five == [text for batch in copies_of(version, 5) for text in batch]


def test_a_version_that_trains_on_nothing_is_refused(tmp_path):
    version = curated(tmp_path, [(query_in("test"), "a passage", 5.0, "another", -5.0)])

    with pytest.raises(UserError, match="curated_triplets@0 has no passage in training to vary"):
        next(copies_of(version, 1))
