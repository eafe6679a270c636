"""What is read of a response, whatever JSON or none it is: a reply, or what came instead of one."""

import json

import pytest

from pipelines.asking.completion import NoCompletion, Reply, read_completion


def body(usage=None, content="yes", finish="stop", **message):
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def test_a_completion_is_read():
    usage = {"prompt_tokens": 3, "completion_tokens": 0}
    assert read_completion(body(usage, refusal="no")) == Reply("yes", "stop", "no", 3, 0)
    assert read_completion(body(content=None, finish=None)) == Reply("", "stop", None, None, None)
    assert read_completion(body(content="half \ud800")).text == "half \ud800"


def test_content_in_parts_is_the_text_that_they_make():
    parts = [{"type": "text", "text": "a "}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert read_completion(body(content=parts)).text == "a b"


@pytest.mark.parametrize("count", [-5, 5.5, 10**30, 2**62, "many", "3", None, True, [1], {}])
def test_a_count_that_none_can_be_is_not_said(count):
    reply = read_completion(body({"prompt_tokens": count, "completion_tokens": 7}))
    assert (reply.text, reply.input_tokens, reply.output_tokens) == ("yes", None, 7)


@pytest.mark.parametrize("usage", ["x", [1], 3])
def test_a_usage_that_is_none_says_nothing(usage):
    assert read_completion(body(usage)) == Reply("yes", "stop", None, None, None)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", "an empty body"),
        (b" \n<html>Welcome</html>", "HTML; is it the base URL"),
        (b"data: {}\n\n", "a stream of events"),
        (b"tea", "no JSON"),
        (b'{"a": "\xff"}', "no JSON"),
        (b"[" * 200_000 + b"]" * 200_000, "something else than a chat completion"),
        (b"null", "something else than a chat completion"),
        (b"[1, 2]", "something else than a chat completion"),
        (b'{"error": {"message": "model overloaded"}}', "an error: model overloaded"),
        (b'{"error": "out of memory"}', "an error: out of memory"),
        (b'{"error": {}}', "choices: Field required"),
        (b'{"choices": []}', "choices: List should have at least 1 item"),
        (b'{"choices": "abc"}', "choices: Input should be a valid list"),
        (b'{"choices": {"0": 1}}', "choices: Input should be a valid list"),
        (b'{"choices": [null]}', "choices.0: Input should be an object"),
        (b'{"choices": [{"message": "hello"}]}', "choices.0.message: Input should be an object"),
        (b'{"choices": [{}]}', "choices.0.message: Field required"),
        (body(content=42), "choices.0.message.content: Input should be a valid string"),
        (body(content={"task": "a"}), "choices.0.message.content: Input should be a valid string"),
        (body(content=["a"]), "choices.0.message.content: Input should be a valid string"),
        (body(refusal=5), "choices.0.message.refusal: Input should be a valid string"),
        (body(refusal={"a": 1}), "choices.0.message.refusal: Input should be a valid string"),
    ],
)
def test_anything_else_is_told_by_what_it_is(sent, told):
    with pytest.raises(NoCompletion) as raised:
        read_completion(sent)

    assert told in str(raised.value)
