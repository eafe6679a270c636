"""Mined negatives come from the query's own topic in any script, by the default ranks; and what is said where not."""

import random
from pathlib import Path

import numpy as np
import pytest

from pipelines.intake.layouts import CheckedRow
from pipelines.mining.draw import (
    Candidate,
    DrawConfig,
    Drawn,
    Shortfall,
    mine_negatives,
    tell_stand_ins,
    tell_unmatched,
)
from pipelines.mining.known import Pair, known_positives
from pipelines.mining.passages import Passages

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
    passages = Passages(topic_of, 10_000)
    asked = {text(topic, 2, 1): topic for topic in range(len(topics)) for _ in range(10)}
    first_of = {topic: next(text for text in passages.texts if topic_of[text] == topic) for topic in asked.values()}
    rows = [CheckedRow(query, [first_of[topic]], [], None, None) for query, topic in asked.items()]
    known = known_positives([Pair(0, number, row) for number, row in enumerate(rows, 1)], [])

    drawn = list(mine_negatives(known, passages, DrawConfig()))

    own = [
        topic_of[passages.texts[candidate.position]] == asked[query]
        for query, candidates in zip(known.queries, drawn, strict=True)
        for candidate in candidates
    ]
    assert len(own) == 4 * len(asked)
    assert sum(own) / len(own) >= 5 * (OF_EACH_TOPIC / len(topic_of))


def test_what_was_drawn_is_kept_as_it_was():
    of_queries = [[Candidate(7, "dense", 3, 0.1), Candidate(1 << 30, "random", None)], [], [Candidate(0, "bm25", 1, 0)]]
    drawn = Drawn()
    for candidates in of_queries:
        drawn.append(candidates)

    of_queries[0][0] = of_queries[0][0]._replace(score=float(np.float32(0.1)))
    assert [drawn[query] for query in range(3)] == of_queries


def test_a_shortfall_counts_random_negatives_beyond_those_asked_for():
    shortfall = Shortfall()
    by_rank, at_random = Candidate(0, "bm25", 10), Candidate(1, "random", None)
    shortfall.add("cat", 50, [by_rank] * 3 + [at_random], DrawConfig())
    shortfall.add("dog", 1, [at_random] * 3, DrawConfig())
    shortfall.add("emu", 0, [], DrawConfig())

    assert shortfall == Shortfall(queries=3, unmatched=["emu"], negatives=7, stand_ins=2)


def test_nothing_is_said_where_ranks_give_what_is_asked_or_few_queries_find_nothing(capsys):
    tell_unmatched({"zoo": Shortfall(queries=100, unmatched=["emu"] * 10, negatives=400)})
    tell_stand_ins({"zoo": Shortfall(queries=100, unmatched=["emu"] * 10, negatives=400)}, DrawConfig())

    assert capsys.readouterr().err == ""


def test_of_very_many_sources_ten_are_named(capsys):
    shortfalls = {f"s{n:02d}": Shortfall(1, ["a  long\nquery" * 9], 4, stand_ins=3) for n in range(29, -1, -1)}
    tell_unmatched(shortfalls)
    tell_stand_ins(shortfalls | {"most": Shortfall(9, [], 36, stand_ins=4)}, DrawConfig())
    lines = capsys.readouterr().err.splitlines()

    example = ("a long query" * 9)[:59]
    assert lines[:10] == [
        f"mine: s{n:02d}: 1 of 1 queries share no word with any passage (e.g. {example}…): their negatives are random, "
        "not hard"
        for n in range(10)
    ]
    assert lines[10] == "mine: so are those of many queries of 20 more sources"
    assert lines[11].startswith("mine: negatives drawn at random, as too few passages have rank 10 to 50 for their")
    assert "queries: 4 of 36 of most, 3 of 4 of s00, " in lines[11]
    assert "3 of 4 of s08 and some of 21 more sources; lower mine.first_rank" in lines[11]
    tell_stand_ins(shortfalls, DrawConfig(first_rank=1))
    told = capsys.readouterr().err
    assert "lower mine.first_rank" not in told
    assert "raise mine.last_rank or give" in told
    assert len(lines) == 12
