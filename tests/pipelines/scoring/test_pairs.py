"""A chunk of triplets with a teacher: each pair is scored once, and one that cannot be costs only its own triplets."""

import pytest

from pipelines.scoring.pairs import (
    ChunkScorer,
    Share,
    no_pairs,
    pairs_of,
    read_chunk,
    score_triplets,
    unpack,
    write_chunk,
)
from pipelines.stage.config import Config
from pipelines.storage import Lineage, Tables, new_version
from pipelines.teachers.config import TeacherConfig, load_teacher, name_teacher
from schemas import ScoredTriplets, Triplets
from tests.rows import frame_of
from tests.tiny import poison, tiny_cross_encoder

TEACHER = "judge@0123456789ab"
POISONED = frame_of(
    Triplets,
    {"query": "red sea", "positive": "big fish", "negative": "old king"},
    {"query": "blue sky", "positive": "poison", "negative": "cold ice"},
)


def never_loaded() -> None:
    raise AssertionError("every pair is known")


def test_a_pair_the_teacher_cannot_score_costs_only_its_own_triplets(tmp_path):
    config = TeacherConfig(teacher=poison(tiny_cross_encoder(tmp_path / "judge")), max_tokens=64)
    tables = Tables.at(str(tmp_path / "tables"))
    with new_version(tables, Triplets, Lineage("ingest", [], Config())) as triplets:
        triplets.write(POISONED)
    chunk = read_chunk({"lower": "000", "upper": "g"}, triplets.version, name_teacher(config), Share(1.0))

    scored = ChunkScorer(config, name_teacher(config), 1)(chunk)

    by_query = {row["query"]: row for row in unpack(scored["rows"]).to_dicts()}
    assert by_query["red sea"]["scoring_error"] is None
    assert by_query["red sea"]["positive_score"] is not None
    assert by_query["blue sky"]["scoring_error"].startswith("positive: ")
    assert (by_query["blue sky"]["positive_score"], by_query["blue sky"]["negative_score"]) == (None, None)
    written = write_chunk(scored, tables, ScoredTriplets)
    assert (written["num_rows"], written["num_errors"]) == (2, 1)


def test_a_pair_of_two_triplets_is_scored_once_and_a_known_one_not_at_all(tmp_path):
    judge = load_teacher(TeacherConfig(teacher=tiny_cross_encoder(tmp_path / "judge"), max_tokens=64))
    rows = frame_of(Triplets, {"negative": "old king"}, {"negative": "cold ice"}, query="red sea", positive="big fish")
    asked = []

    class Counting:
        def score(self, queries, passages):
            asked.extend(passages)
            return judge.score(queries, passages)

    scored = score_triplets(rows, no_pairs(), TEACHER, Counting)

    assert sorted(asked) == ["big fish", "cold ice", "old king"]
    expected = judge.score(["red sea"] * 3, ["big fish", "old king", "cold ice"]).score
    assert scored["positive_score"].to_list() == pytest.approx([expected[0]] * 2, abs=1e-5)
    assert scored["negative_score"].to_list() == pytest.approx(list(expected[1:]), abs=1e-5)
    assert score_triplets(rows, pairs_of(scored), TEACHER, never_loaded).equals(scored)
