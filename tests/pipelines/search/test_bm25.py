"""BM25 against Lucene's formula worked out in plain Python, its order, and the words it compares."""

import math
from collections import Counter

import numpy as np
import pytest

from pipelines.search.bm25 import Bm25Index, singular, term_tokenizer
from pipelines.search.terms import passage_terms

PASSAGES = [
    "Cats sleep all day.",
    "A dog and a cat share one house; the dog sleeps.",
    "Ponies eat grass",
    "the of and",
    "grass",
]


def words(text):
    return term_tokenizer(passage_terms).tokenize([text], return_as="string", show_progress=False, allow_empty=False)[0]


def lucene_bm25(query, passages, k1=0.9, b=0.4):
    """Reference: Lucene's BM25 (Kamphuis et al. 2020) of every passage."""
    documents = [Counter(words(passage)) for passage in passages]
    average = sum(sum(document.values()) for document in documents) / len(documents)
    scores = []
    for document in documents:
        length_norm = k1 * (1 - b + b * sum(document.values()) / average)
        total = 0.0
        for word in words(query):
            containing = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
            total += idf * document[word] / (document[word] + length_norm)
        scores.append(total)
    return scores


@pytest.mark.parametrize("query", ["cats", "a sleeping cat sleeps", "dog house grass", "grass grass pony"])
def test_scores_equal_lucenes_formula(query):
    expected = lucene_bm25(query, PASSAGES)

    ranking = Bm25Index(PASSAGES).top([query], k=5)

    found = {int(p): float(s) for p, s in zip(ranking.positions[0], ranking.scores[0], strict=True) if p >= 0}
    assert found == pytest.approx({p: s for p, s in enumerate(expected) if s > 0}, rel=1e-5)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_passages_without_a_shared_word_are_not_ranked():
    ranking = Bm25Index(PASSAGES).top(["house", "unheard", "the"], k=2)

    assert ranking.positions.tolist() == [[1, -1], [-1, -1], [-1, -1]]
    assert ranking.scores[1:].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("passages", "query", "found"),
    [
        (["это кошка", "это рыба", "это собака"], "это собака", [2]),
        (["这是猫", "这是鱼", "这是狗"], "这是狗", [2]),
        (["这是猫", "这是鱼", "这是狗"], "这是", [0, 1, 2]),  # there is nothing else to find by
        (["это кошка", "это рыба", "собака", "лиса"], "это рыба", [1, 0]),  # half of them is not most
        (["red cat", "red fish", "red dog"], "red dogs", [2, 0, 1]),  # English has its list
    ],
)
def test_what_most_passages_have_finds_nothing_beside_other_terms(passages, query, found):
    positions = Bm25Index(passages).top([query], k=9).positions[0]

    assert positions[positions >= 0].tolist() == found


def test_equal_scores_stand_in_the_order_of_the_passages():
    passages = ["red", "blue fish", "red", "blue", "red", "red"]

    assert Bm25Index(passages).top(["red"], k=3).positions.tolist() == [[0, 2, 4]]


def test_a_query_has_one_answer_whatever_else_is_asked():
    index = Bm25Index(PASSAGES)
    together = index.top(["cats", "grass", "dog"], k=3)

    for row, query in enumerate(["cats", "grass", "dog"]):
        alone = index.top([query], k=3)
        assert np.array_equal(alone.positions[0], together.positions[row])
        assert np.array_equal(alone.scores[0], together.scores[row])


@pytest.mark.parametrize("passages", [[], ["the", "!?"]])
def test_passages_without_words_give_empty_rankings(passages):
    assert Bm25Index(passages).top(["cats"], k=2).positions.tolist() == [[-1, -1]]


def test_no_queries_give_no_rows():
    assert Bm25Index(PASSAGES).top([], k=4).positions.shape == (0, 4)


def test_words_are_lower_case_without_stop_words_and_plurals():
    assert words("The CATS' snake_case studies, in 2 buses") == ["cat", "snake", "case", "study", "2", "buse"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("queries", "query"), ("dies", "dy"), ("zombies", "zomby"), ("boxes", "boxe"), ("shoes", "shoe"),
     ("glass", "glass"), ("virus", "virus"), ("tables", "table"), ("s", "s"), ("is", "is"), ("gas", "ga")],
)  # fmt: skip
def test_plurals_follow_harmans_rules(word, expected):
    assert singular(word) == expected
