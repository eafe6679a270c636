"""The client against a real server: what is sent, what is retried, what an error means, and where the key stands."""

import asyncio
import time
from contextlib import suppress

import pytest

from pipelines.asking.endpoint import Pace, Refuses, Rejected, Stopped, Unreachable, api_key, connected
from pipelines.generation.config import GenerateConfig
from pipelines.stage.errors import UserError
from tests.llm_endpoint import Faults, Handler, serving

PROMPT = "write of this Passage:\nred fish swim"


def config(server, **values):
    return GenerateConfig(endpoint=server.url, model="rules", **values)


def asked(config, *prompts, temperature=0.0):
    async def ask():
        async with connected(config) as endpoint:
            return await asyncio.gather(*(endpoint.ask(prompt, temperature=temperature) for prompt in prompts))

    return asyncio.run(ask())


def test_an_answer_comes_with_what_it_cost_and_all_parameters_are_sent():
    with serving() as server:
        extra = {"chat_template_kwargs": {"enable_thinking": False}}
        told = config(server, seed=3, top_p=0.5, max_output_tokens=99, extra=extra)
        (reply,) = asked(told, PROMPT, temperature=0.3)

        assert (reply.input_tokens, reply.output_tokens) == (server.ledger.input_tokens, server.ledger.output_tokens)
        (body,) = server.ledger.bodies
    expected = {"model": "rules", "temperature": 0.3, "top_p": 0.5, "seed": 3, "max_tokens": 99}
    assert (expected | extra | {"response_format": {"type": "json_object"}}).items() <= body.items()


def test_what_fails_on_the_way_is_asked_again_until_it_is_answered():
    prompts = [f"{PROMPT} {number}" for number in range(30)]
    with serving(Faults(fails=0.3)) as server:
        replies = asked(config(server), *prompts)

        assert len(replies) == 30
        assert set(server.ledger.failures) == {"500", "429", "dropped"}
        assert server.ledger.requests == 30 + server.ledger.failures.total()


def test_no_more_requests_go_out_than_a_minute_may_have():
    with serving(Faults(fails=0.3)) as server:
        asked(config(server, requests_per_minute=1200.0), *(f"{PROMPT} {number}" for number in range(8)))

        came_at = sorted(server.ledger.came_at)
    assert len(came_at) > 8, "retries are among them"
    assert came_at[-1] - came_at[0] >= (len(came_at) - 1) * 0.05 - 0.04


def test_a_pause_that_the_endpoint_asks_for_holds_for_all():
    pace = Pace(None)

    async def waited():
        pace.hold(0.2)
        started = time.monotonic()
        await asyncio.gather(pace.wait(), pace.wait())
        return time.monotonic() - started

    assert 0.18 < asyncio.run(waited()) < 2


@pytest.mark.parametrize(
    ("faults", "kind", "told"),
    [
        (Faults(status=401), Refuses, "expected a key that it takes in the environment's OPENAI_API_KEY"),
        (Faults(status=403), Refuses, "expected a key"),
        (Faults(status=404), Refuses, "expected the base URL with its /v1, and a model that it has"),
        (Faults(rejected=1.0), Rejected, "this passage is too long for the model"),
        (Faults(status=422), Rejected, "no entry"),
        (Faults(status=500), Unreachable, "no entry"),
        (Faults(fails=1.0), Unreachable, "no answer comes from"),
    ],
)
def test_an_error_is_told_by_what_can_be_done(faults, kind, told):
    with serving(faults) as server, pytest.raises(kind, match=told):
        asked(config(server, max_retries=0), PROMPT)


def test_what_is_no_completion_is_unreachable_and_told_without_control_characters(monkeypatch):
    monkeypatch.setattr(Handler, "_answer", lambda self, *_: self._send(200, {"error": "\x1b[31m\ud800red\nfish"}, {}))
    with serving() as server, pytest.raises(Unreachable) as raised:
        asked(config(server, max_retries=0), PROMPT)

    assert str(raised.value) == f"{server.url} answers an error: [31m red fish"


def test_where_nothing_answers_it_is_said_why():
    with serving() as server:
        pass
    with pytest.raises(Unreachable, match=f"nothing answers at {server.url}: the connection is refused"):
        asked(config(server, max_retries=0), PROMPT)
    unknown = GenerateConfig(endpoint="http://nowhere.invalid/v1", model="rules", max_retries=0)
    with pytest.raises(Unreachable, match=r"nothing answers at http://nowhere.invalid/v1"):
        asked(unknown, PROMPT)


def test_the_time_of_an_answer_is_that_of_all_its_bytes(monkeypatch):
    def drip(self, status, value, headers):
        self.send_response(status)
        self.send_header("Content-Length", "100")
        self.end_headers()
        with suppress(OSError):  # the client has gone
            for _ in range(100):
                self.wfile.write(b" ")
                time.sleep(0.05)

    monkeypatch.setattr(Handler, "_send", drip)
    started = time.monotonic()
    with serving() as server, pytest.raises(Unreachable, match=r"no whole answer in 0.3 s \(generate.timeout_s\)"):
        asked(config(server, max_retries=1, timeout_s=0.3), PROMPT)

    assert server.ledger.requests == 2, "it is asked again"
    assert time.monotonic() - started < 4.5, "of 5 s that one answer takes"


def test_a_turn_that_is_far_off_is_not_waited_for_where_the_run_is_to_end():
    async def outcomes():
        pace = Pace(0.1)
        waits = [asyncio.create_task(pace.wait()) for _ in range(3)]
        await asyncio.sleep(0.05)
        pace.stop()
        return await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 5)

    first, *others = asyncio.run(outcomes())
    assert first is None
    assert [type(other) for other in others] == [Stopped, Stopped]


@pytest.mark.parametrize("held", ["kéy", "sk-a\nX-Other: b", "a\tb"])
def test_a_key_that_no_header_can_hold_is_refused(monkeypatch, held):
    monkeypatch.setenv("OTHER_KEY", held)
    with pytest.raises(UserError, match="OTHER_KEY holds a character that no key has") as raised:
        api_key(GenerateConfig(api_key_variable="OTHER_KEY"))
    assert held not in str(raised.value)


def test_a_key_that_is_asked_for_and_not_set_is_told(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(Faults(status=401)) as server, pytest.raises(Refuses, match="OPENAI_API_KEY, which is not set"):
        asked(config(server), PROMPT)


def test_the_key_is_sent_and_stands_in_no_message(monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "sk-very-secret")
    with serving(Faults(key="sk-very-secret")) as server:
        asked(config(server, api_key_variable="OTHER_KEY"), PROMPT)
    with serving(Faults(key="another")) as server, pytest.raises(Refuses) as raised:
        asked(config(server, api_key_variable="OTHER_KEY"), PROMPT)

    assert "no entry with Bearer ***" in str(raised.value)
    assert "very-secret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_variable_that_the_recipe_names_must_be_set(monkeypatch):
    monkeypatch.delenv("OTHER_KEY", raising=False)
    with pytest.raises(UserError, match="OTHER_KEY, which is not set"):
        api_key(GenerateConfig(api_key_variable="OTHER_KEY"))
