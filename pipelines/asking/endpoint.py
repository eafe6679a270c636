"""The client of an OpenAI-compatible endpoint: one question, one answer, at the pace that was asked for.

The openai package retries what may pass (408, 409, 429, 5xx, broken connections, timeouts), with growing waits or as
Retry-After says. What is left is sorted here: `Rejected` concerns one question (400, 413, 422), `Unreachable` may pass
later, `Refuses` will not (401, 403, 404, no quota). The key comes from the environment and stands in no message.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pipelines.asking.completion import NoCompletion, Reply, read_completion
from pipelines.asking.config import EndpointConfig
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

NO_KEY = "none"  # what is sent where a server wants none: the client insists on one
DEFAULT_VARIABLE = "OPENAI_API_KEY"
LONGEST_HOLD_S = 120.0  # as the client itself waits at most
QUOTA, FILTERED = "insufficient_quota", "content_filter"


class Rejected(Exception):
    """The endpoint does not take this question."""


class Unreachable(OSError):
    """No answer after all retries."""


class Refuses(UserError):
    """The endpoint takes no question at all: asking again will not help."""


class Pace:
    """When the next request may go out: so many a minute, and none while the endpoint asked for a pause."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._apart_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next_at = 0.0

    async def wait(self) -> None:
        """Until it is this request's turn."""
        now = time.monotonic()
        at = max(now, self._next_at)
        if self._apart_s:
            self._next_at = at + self._apart_s
        await asyncio.sleep(at - now)

    def hold(self, seconds: float) -> None:
        """Nothing goes out for so long."""
        self._next_at = max(self._next_at, time.monotonic() + min(seconds, LONGEST_HOLD_S))


def api_key(config: EndpointConfig) -> str:
    """Raises UserError where the recipe names a variable that is not set."""
    key = os.environ.get(config.api_key_variable, "").strip()
    if not key and config.api_key_variable != DEFAULT_VARIABLE:
        raise UserError(
            f"{config.stage}.api_key_variable names {config.api_key_variable}, which is not set; expected the "
            "endpoint's key in it"
        )
    return key or NO_KEY


@asynccontextmanager
async def connected(config: EndpointConfig) -> "AsyncIterator[Endpoint]":
    """The endpoint, for as long as the block lasts."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # seconds to import: only who asks pays

    pace, key = Pace(config.requests_per_minute), api_key(config)

    async def before(request: "httpx2.Request") -> None:
        await pace.wait()

    async def after(response: "httpx2.Response") -> None:
        if response.status_code in (429, 503):
            pace.hold(_seconds(response.headers.get("retry-after")))

    http = DefaultAsyncHttpxClient(event_hooks={"request": [before], "response": [after]})
    client = AsyncOpenAI(
        api_key=key,
        base_url=config.base_url(),
        max_retries=config.max_retries,
        timeout=config.timeout_s,
        http_client=http,
    )
    async with client:
        yield Endpoint(client, config, key)


def _seconds(retry_after: str | None) -> float:
    """Of a Retry-After in seconds; a date is left to the client, which waits for it with the one request."""
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        return 0.0


class Endpoint:
    """Questions to one model."""

    def __init__(self, client: "AsyncOpenAI", config: EndpointConfig, key: str) -> None:
        self._client, self._config, self._key = client, config, key

    def without_key(self, text: str) -> str:
        """A text in which the key does not stand, whatever the endpoint echoes."""
        return text if self._key == NO_KEY else text.replace(self._key, "***")

    async def ask(self, prompt: str, *, temperature: float | None) -> Reply:
        """One question.

        Raises:
            Rejected: it is not taken, say because it is too long.
            Unreachable: no answer after all retries.
            Refuses: no question would be taken.
        """
        import openai

        try:
            response = await self._client.chat.completions.with_raw_response.create(**self._body(prompt, temperature))
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise Refuses(f"{self._told(error)}; {self._way_out(error)}") from None
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if error.code == FILTERED:
                return Reply("", FILTERED, self._told(error), 0, 0)
            raise Rejected(self._told(error)) from None
        except openai.APIStatusError as error:
            if error.code == QUOTA:
                raise Refuses(f"{self._told(error)}; expected credit: top up, or name another endpoint") from None
            kind = Rejected if error.status_code == 413 else Unreachable
            raise kind(self._told(error)) from None
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__ if error.__cause__ else ""
            raise Unreachable(f"{self._told(error)}{f' ({cause})' if cause else ''}") from None
        except openai.OpenAIError as error:
            raise Unreachable(self._told(error)) from None
        try:
            reply = read_completion(response.content)
        except NoCompletion as error:
            raise Unreachable(self._told(error)) from None
        return reply._replace(text=self.without_key(reply.text), refusal=self.without_key(reply.refusal or "") or None)

    def _body(self, prompt: str, temperature: float | None) -> dict[str, Any]:
        config = self._config
        body: dict[str, Any] = {"model": config.model, "messages": [{"role": "user", "content": prompt}]}
        body[config.output_limit] = config.max_output_tokens
        chosen = {"temperature": temperature, "top_p": config.top_p, "seed": config.seed}
        body |= {name: value for name, value in chosen.items() if value is not None}
        if config.answer_format == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body | ({"extra_body": config.extra} if config.extra else {})

    def _told(self, error: Exception) -> str:
        """The endpoint, and what it said, on one line without the key."""
        said = self.without_key(str(getattr(error, "message", error)))
        shown = "".join(char if char.isprintable() else " " for char in said)  # it may reach a terminal
        return f"{self._config.endpoint} answers {' '.join(shown.split())[:400]}"

    def _way_out(self, error: Exception) -> str:
        config = self._config
        if getattr(error, "status_code", 0) == 404:
            found = f"found {config.stage}.model {config.model}"
            return f"expected the base URL with its /v1, and a model that it has: {found}"
        return f"expected a key that it takes in the environment's {config.api_key_variable}"
