"""What is read of a model's answer, and the reason where nothing can be."""

import json

import pytest

from pipelines.asking.answers import Unusable
from pipelines.generation.answers import Written, read_grades, read_written

GOOD = '{"task": "find an answer", "query": "who built it?"}'


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Here you are: {GOOD} I hope it helps.",
        f'<think>Perhaps {{"task": "x", "query": "y"}}?</think>\n{GOOD}',
        f"a template left the opening tag out</think>{GOOD}",
        '{"task": " find an answer ", "query": "\\n who built it? ", "why": {"a": 1}}',
    ],
)
def test_the_object_is_found_in_what_models_put_around_it(answer):
    assert read_written(answer, "the passage", 100) == Written("find an answer", "who built it?")


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        ("", "malformed_answer", "an empty answer"),
        (GOOD[:30], "malformed_answer", "no JSON object"),
        ("[1, 2]", "malformed_answer", "no JSON object"),
        ('{"query": "who?"}', "malformed_answer", "task: Field required"),
        ('{"task": "t", "query": 5}', "malformed_answer", "query: Input should be a valid string"),
        ('{"task": " ", "query": "who?"}', "malformed_answer", "the task is empty"),
        ('{"task": "...", "query": "..."}', "malformed_answer", "the query has no word"),
        ('{"task": "", "query": ""}', "nothing_to_ask", "the query is empty"),
        (json.dumps({"task": "t", "query": "x" * 101}), "malformed_answer", "101 characters, expected at most 100"),
        ('{"task": "t", "query": "half \\ud800"}', "malformed_answer", "surrogates not allowed at character 5"),
        ('{"task": "t", "query": " The passage"}', "copies_the_passage", "the query is the passage"),
        ("I'm sorry, but I can't help with that.", "refused", "the model refused in words"),
        ("I cannot write a query about this.", "refused", "the model refused in words"),
        ("As an AI, I have no opinion", "refused", "the model refused in words"),
        ("Sorted by relevance: none", "malformed_answer", "no JSON object"),
    ],
)
def test_what_cannot_be_used_has_its_reason(answer, reason, detail):
    with pytest.raises(Unusable) as raised:
        read_written(answer, "The passage", 100)

    assert raised.value.reason == reason
    assert detail in raised.value.detail


def test_an_answer_that_refuses_in_words_and_yet_answers_is_an_answer():
    assert read_written(f"I'm sorry for the wait. {GOOD}", "passage", 100).query == "who built it?"


@pytest.mark.parametrize(
    "answer",
    ['{"grades": {"2": 0, "1": 3, "3": 1}}', '{"grades": [3, 0, 1]}', '{"grades": {"1": "3", "2": 0.0, "3": " 1 "}}'],
)
def test_grades_come_in_the_order_of_the_candidates(answer):
    assert read_grades(answer, 3) == [3, 0, 1]


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ('{"grades": {"1": 3, "2": 0}}', "grades of 2 passages, expected one for each of 3"),
        ('{"grades": [3, 0, 1, 1]}', "grades of 4 passages, expected one for each of 3"),
        ('{"grades": {"1": 3, "2": 0, "4": 1}}', "grades of 3 passages, expected one for each of 3"),
        ('{"grades": [3, 0, 4]}', "a grade of 4, expected 0 to 3"),
        ('{"grades": [3, 0, -1]}', "a grade of -1, expected 0 to 3"),
        ('{"grades": [3, 0, 0.5]}', "grades.3: Input should be a valid integer"),
        ('{"grades": [3, 0, true]}', "grades.3: Input should be a valid integer"),
        ('{"grades": "3 0 1"}', "grades: Input should be a valid dictionary"),
    ],
)
def test_grades_that_are_not_one_for_each_are_malformed(answer, detail):
    with pytest.raises(Unusable, match="malformed_answer") as raised:
        read_grades(answer, 3)

    assert detail in raised.value.detail
