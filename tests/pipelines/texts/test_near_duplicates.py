"""Which texts are nearly the same: by the runs of words that they share, however typed and in whatever script."""

import random

import pytest

from pipelines.texts.near_duplicates import NUM_HASHES, NearTexts, alike, num_bands, share

WORDS = [f"word{number}" for number in range(2_000)]


def text_of(seed: int, length: int = 100) -> list[str]:
    return random.Random(seed).sample(WORDS, length)


def with_changed(words: list[str], *places: int) -> str:
    return " ".join("changed" if place in places else word for place, word in enumerate(words))


def test_edited_copies_count_as_the_first_and_others_as_themselves():
    originals = [" ".join(text_of(seed)) for seed in range(300)]
    copies = [with_changed(text_of(seed), 40) for seed in range(300)]
    rewritten = [with_changed(text_of(seed), *range(0, 100, 7)) for seed in range(300)]
    assert share(originals[0], copies[0]) == pytest.approx(95 / 101)
    assert share(originals[0], rewritten[0]) < 0.6

    found = alike([*originals, *copies, *rewritten], 0.9).firsts.tolist()

    assert found[:300] == list(range(300))
    hits = sum(copy == original for original, copy in enumerate(found[300:600]))
    assert hits == 300
    assert found[600:] == list(range(600, 900))


def test_what_counts_as_another_shares_so_much_with_it_and_what_does_not_was_compared_in_earnest():
    """40 texts that differ in their last word: each two share .92, where the sketches say less than .9 of some."""
    words = text_of(7, 25)
    texts = [" ".join([*words, str(number)]) for number in range(40)]
    runs = [set(zip(one.split(), one.split()[1:], one.split()[2:], strict=False)) for one in texts[:2]]
    assert share(*texts[:2]) == len(runs[0] & runs[1]) / len(runs[0] | runs[1]) == 23 / 25

    assert alike(texts, 0.92).firsts.tolist() == [0] * 40
    assert alike(texts, 0.93).firsts.tolist() == list(range(40))
    assert alike([*texts, "another text altogether", ""], 0.92).may_have_copies.tolist() == [*[True] * 40, False, False]


def test_case_punctuation_and_spelling_make_no_difference():
    text = "Iron, copper & zinc are METALS that conduct; wood does not."
    assert alike([text, "iron copper zinc are metals  that conduct wood does not"], 1).firsts.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("The capital of France is the old city of Paris", "The capital of France is the old city of Lyon"),
        ("yes", "no"),
        ("?!", "..."),
        ("猫はよく寝る動物です", "犬はよく走る動物です"),
    ],
)
def test_short_texts_that_differ_are_two(first, second):
    assert alike([first, second], 0.8).firsts.tolist() == [0, 1]


def test_where_words_have_no_spaces_characters_are_compared():
    text = "東京は日本の首都であり、世界でも最大級の都市のひとつとして知られている。"
    text += "人口は一千万人を超え、経済と文化の中心である。"
    assert alike([text, text.replace("最大級", "有数")], 0.8).firsts.tolist() == [0, 0]


def test_a_chain_of_edits_ends_where_it_is_too_far_from_its_first_text():
    words = text_of(1)
    chain = [with_changed(words, *range(0, 10 * edits, 10)) for edits in range(10)]
    found = alike(chain, 0.8).firsts

    assert found[1] == 0
    assert found[9] != 0
    assert all(share(chain[first], chain[number]) > 0.7 for number, first in enumerate(found))


def test_of_known_texts_one_that_is_near_is_found_and_none_where_all_are_far():
    words = text_of(2)
    near = NearTexts([with_changed(words, 10, 50), " ".join(text_of(4))], 0.7)

    assert near.hold([" ".join(words), " ".join(text_of(3)), *([" ".join(text_of(4))] * 3)]).tolist() == [
        *(True, False),
        *[True] * 3,
    ]
    assert near.hold([]).tolist() == []
    assert NearTexts([], 0.7).hold(["a text of four words"]).tolist() == [False]


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.95, 1])
def test_bands_find_nearly_all_pairs_at_the_threshold(threshold):
    bands = num_bands(threshold)
    found = 1 - (1 - threshold ** (NUM_HASHES // bands)) ** bands
    assert NUM_HASHES % bands == 0
    assert found >= 0.99
