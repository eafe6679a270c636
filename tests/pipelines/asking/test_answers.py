"""The object in an answer, and that no answer takes long to read, whatever stands in it."""

import time

import pytest
from pydantic import BaseModel

from pipelines.asking.answers import Unusable, checked, read_reply
from pipelines.asking.completion import Reply
from pipelines.generation.config import GenerateConfig


class Said(BaseModel):
    said: str


def said(answer):
    return checked(Said, answer).said


@pytest.mark.parametrize(
    "answer",
    [
        '{"said": "no"} </think> {"said": "yes"}',
        '<think>{"said": "no"}</think> {"said": "yes"} <think>{"said": "no"}</think> so it is',
        '<think></think>{"said": "no"} {"said": "yes"} <think> and no end',
        r'\\frac{1}{2} {x} {\n "said" : "yes"}'.replace(r"\n", "\n"),
        '{"a" {"b" ' * 50 + '{"said": "yes"}',
    ],
)
def test_the_last_object_that_is_no_thought_is_found(answer):
    assert said(answer) == "yes"


@pytest.mark.parametrize(
    "part", ["{", "<think>", '{"said":', '{"said', "<think></think>", '{"said":[', "{ ", '{"a":1,']
)
def test_a_long_answer_without_an_object_is_refused_soon(part):
    started = time.monotonic()
    with pytest.raises(Unusable, match="malformed_answer"):
        said(part * (400_000 // len(part)))

    assert time.monotonic() - started < 5


def test_an_answer_longer_than_its_tokens_can_make_is_not_read():
    config = GenerateConfig(max_output_tokens=100)

    def read(text):
        return len(text)

    assert read_reply(Reply("x" * 11_600, "stop", None, None, None), config, read) == 11_600
    with pytest.raises(Unusable, match="11,601 characters, far more than"):
        read_reply(Reply("x" * 11_601, "stop", None, None, None), config, read)
