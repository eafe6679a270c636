"""What is said of the systems that an evaluation compares; test_evaluate.py has them loaded and measured."""

from pipelines.curation.held_out import EvaluationSet
from pipelines.evaluation.systems import bm25_rankings

SET = EvaluationSet("made/up", {"q1": "king", "q2": "ψάρι θάλασσα"}, {"p1": "red king", "p2": "blue fish"}, {})


def test_it_is_said_of_a_set_that_many_queries_share_no_word_with_any_passage(capsys):
    readable = SET._replace(name="readable", queries={"q1": "king", "q2": "fish"})

    assert bm25_rankings([SET, readable]) == {
        "made/up": {"q1": ["p1"], "q2": []},
        "readable": {"q1": ["p1"], "q2": ["p2"]},
    }
    assert capsys.readouterr().err.splitlines() == [
        "evaluate: made/up: 1 of 2 queries share no word with any passage (e.g. ψάρι θάλασσα): BM25 ranks nothing for "
        "them"
    ]
