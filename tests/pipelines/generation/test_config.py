"""A generator's name covers all that a row depends on, and nothing else; what cannot be is refused."""

import pytest
from pydantic import ValidationError

from pipelines.generation.config import GenerateConfig
from pipelines.stage.errors import UserError
from pipelines.teachers.config import TeacherConfig
from tests.tiny import tiny_bi_encoder, tiny_cross_encoder

CONFIG = GenerateConfig(endpoint="http://host:8000/v1", model="m")


def named(**changes):
    return GenerateConfig(**(CONFIG.model_dump() | changes)).generator


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "https://other/v1"},
        {"concurrency": 2},
        {"max_retries": 0},
        {"requests_per_minute": 5.0},
        {"price_per_million": (1.0, 2.0), "max_cost": 3.0},
        {"max_passages": 7},
        {"api_key_variable": "OTHER_KEY"},
        {"commit_every_s": 0.0},
    ],
)
def test_where_and_how_fast_it_is_asked_makes_no_other_generator(changes):
    assert named(**changes) == CONFIG.generator


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "n"},
        {"temperature": 0.0},
        {"seed": 1},
        {"write_prompt": "{passage}"},
        {"rank_prompt": "{task}{query}{count}{candidates}"},
        {"candidates": 5},
        {"ranker": "seed"},
        {"extra": {"reasoning_effort": "low"}},
        {"passage_chars": 100},
    ],
)
def test_what_a_row_depends_on_makes_another(changes):
    assert named(**changes) != CONFIG.generator


def test_how_candidates_are_graded_is_no_part_of_one_that_grades_none():
    assert named(ranker="seed", candidates=5) == named(ranker="seed")


def test_a_teacher_that_ranks_is_part_of_the_name_with_how_near_counts_as_equal(tmp_path):
    judge = TeacherConfig(teacher=tiny_cross_encoder(tmp_path / "judge"), max_tokens=64, precision="auto")
    other = TeacherConfig(teacher=tiny_bi_encoder(tmp_path / "other"), teacher_kind="bi_encoder", max_tokens=64)
    of_recipe = CONFIG.model_copy(update={"ranker": "teacher"}).ranked_by(judge)
    own = CONFIG.model_copy(update={"ranker": "teacher"}).ranked_by(other)
    names = {of_recipe.generator, own.generator, CONFIG.generator, named(ranker="seed")}

    assert (of_recipe.tolerance(), own.tolerance()) == (0.5, 0.05)  # logits, cosines
    assert (len(names), of_recipe.teacher.precision) == (4, "float32")
    assert of_recipe.model_copy(update={"same_within": 0.1}).generator not in names
    assert of_recipe.model_copy(update={"same_within": 0.5, "max_negative_grade": 0}).generator == of_recipe.generator
    assert CONFIG.ranked_by(judge) == CONFIG, "nobody else ranks"
    with pytest.raises(UserError, match=r"generate.ranker is \"teacher\", and there is none"):
        _ = named(ranker="teacher")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"endpoint": "host:8000"}, "expected http://HOST"),
        ({"endpoint": "http://host:99999/v1"}, "Port out of range"),
        ({"endpoint": "http://host:0/v1"}, "port 0 is none"),
        ({"requests_per_minute": 1e-9}, "greater than or equal to 0.1"),
        ({"endpoint": "http://me:secret@host/v1"}, "no name, password or query"),
        ({"endpoint": "http://host/v1?key=secret"}, "no name, password or query"),
        ({"model": " "}, "as the endpoint has it"),
        ({"model": "a\nb"}, "as the endpoint has it"),
        ({"write_prompt": "write"}, "write_prompt lacks {passage}"),
        ({"max_negative_grade": 2}, "below min_positive_grade"),
        ({"teacher": {"max_token": 64}}, "who ranks is the recipe's teacher, --set score.teacher="),
        ({"max_cost": 1.0}, "max_cost needs price_per_million"),
        ({"price_per_million": (-1.0, 1.0)}, "0 or more"),
        ({"extra": {"messages": []}}, "messages cannot be set there"),
        ({"extra": {"a": float("nan")}}, "what JSON can hold"),
        ({"api_key_variable": "sk-123"}, "pattern"),
    ],
)
def test_what_cannot_be_is_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        GenerateConfig(**changes)


def test_without_an_endpoint_or_a_model_it_says_how_to_name_one():
    with pytest.raises(UserError, match=r"--set generate.endpoint="):
        GenerateConfig(model="m").base_url()
    with pytest.raises(UserError, match=r"--set generate.model="):
        _ = GenerateConfig(endpoint="http://host/v1").generator


def test_cost_is_that_of_input_and_output():
    assert GenerateConfig(price_per_million=(2.0, 10.0)).cost(500_000, 100_000) == pytest.approx(2.0)
    assert GenerateConfig().cost(1, 1) is None
