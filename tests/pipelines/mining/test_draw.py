"""Mined negatives come from the query's own topic in any script, by the default ranks; and what is said where not."""

import random
from pathlib import Path

import pytest

from pipelines.mining.draw import Candidate, DrawConfig, Drawn, mine_negatives, tell_shortfalls
from pipelines.mining.inputs import Known, Passages

LANGUAGES = (Path(__file__).parent / "topics.txt").read_text(encoding="utf-8").split("\n\n")[1:]
OF_EACH_TOPIC = 80


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.split()[0])
def test_negatives_come_from_the_querys_own_topic_five_times_as_often_as_by_chance(language):
    (name, between, *of_none), *topics = [line.split() for line in language.strip().split("\n")]
    between = {"-": "", "_": " "}[between]
    chooser = random.Random(name)

    def text(topic, num_words, num_others):
        words = chooser.sample(topics[topic], num_words) + chooser.sample(of_none, num_others)
        return between.join(chooser.sample(words, len(words)))

    topic_of = {text(topic, 3, 6): topic for topic in range(len(topics)) for _ in range(OF_EACH_TOPIC)}
    passages, known = Passages(topic_of, 10_000), Known({}, {})
    asked = {text(topic, 2, 1): topic for topic in range(len(topics)) for _ in range(10)}
    for query, topic in asked.items():
        known.add(query, [next(text for text in passages.texts if topic_of[text] == topic)])

    drawn = dict(mine_negatives(known, passages, DrawConfig()))

    own = [
        topic_of[passages.texts[candidate.position]] == asked[query]
        for query_id, query in known.queries.items()
        for candidate in drawn[query_id].negatives
    ]
    assert len(own) == 4 * len(asked)
    assert sum(own) / len(own) >= 5 * (OF_EACH_TOPIC / len(topic_of))


def drawn(ranked, random, num_ranked=50):
    by_rank = [Candidate(number, "bm25", 10 + number) for number in range(ranked)]
    return Drawn(by_rank + [Candidate(number, "random", None) for number in range(random)], num_ranked)


def test_nothing_is_said_where_the_ranks_give_what_is_asked(capsys):
    tell_shortfalls({"zoo": {"cat": drawn(3, 1), "dog": drawn(2, 0)}}, DrawConfig())  # of a dog passages have run out

    assert capsys.readouterr().err == ""


def test_sources_whose_queries_find_nothing_are_named_with_an_example(capsys):
    read = {f"q{number}": drawn(3, 1) for number in range(9)}
    unread = {f"unread  {number}": drawn(0, 4, num_ranked=0) for number in range(2)}
    tell_shortfalls({"few": {**read, "unread": unread["unread  0"]}, "many": {**read, **unread}}, DrawConfig())

    assert capsys.readouterr().err.splitlines() == [
        "mine: many: 2 of 11 queries share no word with any passage (e.g. unread 0): their negatives are random, "
        "not hard",
        "mine: negatives drawn at random, as too few passages have rank 10 to 50 for their queries: 6 of 44 of many, "
        "3 of 40 of few; lower mine.first_rank or give more passages",
    ]


def test_of_very_many_sources_ten_are_named(capsys):
    tell_shortfalls({f"s{number:02d}": {"q": drawn(0, 4, num_ranked=0)} for number in range(30)}, DrawConfig())
    lines = capsys.readouterr().err.splitlines()

    assert [line.split(": ")[1] for line in lines[:10]] == [f"s{number:02d}" for number in range(10)]
    assert lines[10] == "mine: so are those of many queries of 20 more sources"
    assert "3 of 4 of s09 and some of 20 more sources; lower" in lines[11]
    assert len(lines) == 12
