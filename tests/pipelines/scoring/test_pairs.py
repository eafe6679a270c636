"""Triplets with a teacher: each pair is scored once, a known one not at all."""

import pytest

from pipelines.scoring.pairs import NO_PAIRS, pairs_of, score_triplets
from pipelines.teachers.config import TeacherConfig, load_teacher
from schemas import Triplets
from tests.rows import frame_of
from tests.tiny import tiny_cross_encoder

TEACHER = "judge@0123456789ab"


def never_loaded() -> None:
    raise AssertionError("every pair is known")


def test_a_pair_of_two_triplets_is_scored_once_and_a_known_one_not_at_all(tmp_path):
    judge = load_teacher(TeacherConfig(teacher=tiny_cross_encoder(tmp_path / "judge"), max_tokens=64))
    rows = frame_of(Triplets, {"negative": "old king"}, {"negative": "cold ice"}, query="red sea", positive="big fish")
    asked = []

    class Counting:
        def score(self, queries, passages):
            asked.extend(passages)
            return judge.score(queries, passages)

    scored = score_triplets(rows, NO_PAIRS, TEACHER, Counting)

    assert sorted(asked) == ["big fish", "cold ice", "old king"]
    expected = judge.score(["red sea"] * 3, ["big fish", "old king", "cold ice"]).score
    assert scored["positive_score"].to_list() == pytest.approx([expected[0]] * 2, abs=1e-5)
    assert scored["negative_score"].to_list() == pytest.approx(list(expected[1:]), abs=1e-5)
    assert score_triplets(rows, pairs_of(scored), TEACHER, never_loaded).equals(scored)
