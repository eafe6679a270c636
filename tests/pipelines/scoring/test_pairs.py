"""Scores of triplets from scores of pairs: what is known is not asked again, what fails costs only its own triplets."""

import polars as pl
import pytest

from pipelines.scoring.pairs import NO_PAIRS, pairs_of, score_triplets
from pipelines.teachers.config import TeacherConfig, load_teacher
from schemas import ScoredTriplets, Triplets
from tests.scored_versions import scored_rows
from tests.tiny import poison, tiny_cross_encoder


def triplets(*texts: tuple[str, str, str]) -> pl.DataFrame:
    rows = scored_rows([(query, positive, 0.0, negative, 0.0) for query, positive, negative in texts])
    return rows.select(Triplets.polars_schema().keys())


def test_a_pair_the_teacher_cannot_score_costs_only_its_own_triplets(tmp_path):
    teacher = load_teacher(TeacherConfig(teacher=poison(tiny_cross_encoder(tmp_path / "judge")), max_tokens=64))
    rows = triplets(("red sea", "big fish", "old king"), ("blue sky", "poison", "cold ice"))

    scored = score_triplets(rows, NO_PAIRS, teacher.name, lambda: teacher)

    ScoredTriplets.validate(scored, lazy=True)
    by_query = {row["query"]: row for row in scored.to_dicts()}
    assert by_query["red sea"]["scoring_error"] is None
    assert by_query["red sea"]["positive_score"] is not None
    assert by_query["blue sky"]["scoring_error"].startswith("positive: ")
    assert (by_query["blue sky"]["positive_score"], by_query["blue sky"]["negative_score"]) == (None, None)


def test_a_pair_of_two_triplets_is_scored_once(tmp_path):
    judge = load_teacher(TeacherConfig(teacher=tiny_cross_encoder(tmp_path / "judge"), max_tokens=64))
    rows = triplets(("red sea", "big fish", "old king"), ("red sea", "big fish", "cold ice"))
    asked = []

    class Counting:
        def score(self, queries, passages):
            asked.extend(passages)
            return judge.score(queries, passages)

    scored = score_triplets(rows, NO_PAIRS, judge.name, Counting)

    assert sorted(asked) == ["big fish", "cold ice", "old king"]
    expected = judge.score(["red sea"] * 3, ["big fish", "old king", "cold ice"]).score
    assert scored["positive_score"].to_list() == pytest.approx([expected[0]] * 2, abs=1e-5)
    assert scored["negative_score"].to_list() == pytest.approx(list(expected[1:]), abs=1e-5)


def test_no_teacher_is_loaded_for_pairs_whose_scores_are_known():
    scored = scored_rows([("red sea", "big fish", 3.0, "old king", -1.0), ("red sea", "big fish", 3.0, "ice", -2.0)])
    rows = scored.select(Triplets.polars_schema().keys())

    def load():
        pytest.fail("there is nothing to score")

    assert score_triplets(rows, pairs_of(scored), scored["teacher"][0], load).equals(scored)
