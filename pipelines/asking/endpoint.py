"""The client of an OpenAI-compatible endpoint: one question, one answer, at the pace that was asked for.

The openai package retries what may pass (408, 409, 429, 5xx, broken connections, timeouts), with growing waits or as
Retry-After says. What is left is sorted here: `Rejected` concerns one question (400, 413, 422), `Unreachable` may pass
later, `Refuses` will not (401, 403, 404, no quota). The key comes from the environment and stands in no message.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from pipelines.asking.completion import NoCompletion, Reply, read_completion
from pipelines.asking.config import EndpointConfig
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NO_KEY = "none"  # what is sent where a server wants none: the client insists on one
DEFAULT_VARIABLE = "OPENAI_API_KEY"
PATIENCE_S = 5.0  # a wait that ends so soon is waited for, though the run is to end
LONGEST_HOLD_S = 120.0  # as the client itself waits at most
QUOTA, FILTERED = "insufficient_quota", "content_filter"


class Rejected(Exception):
    """The endpoint does not take this question."""


class Unreachable(OSError):
    """No answer after all retries."""


class Refuses(UserError):
    """The endpoint takes no question at all: asking again will not help."""


class Stopped(Exception):
    """The run is to end, and the next request might not go out for long."""


class Pace:
    """When the next request may go out: so many a minute, and none while the endpoint asked for a pause."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._apart_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next_at = 0.0
        self._stopped = asyncio.Event()

    async def wait(self) -> None:
        """Until it is this request's turn. Raises Stopped where that is far off and the run is to end."""
        now = time.monotonic()
        at = max(now, self._next_at)
        if self._apart_s:
            self._next_at = at + self._apart_s
        with suppress(TimeoutError):
            async with asyncio.timeout(at - now):
                await self._stopped.wait()
        if (left := at - time.monotonic()) > PATIENCE_S:
            raise Stopped
        await asyncio.sleep(max(0.0, left))

    def stop(self) -> None:
        """The run is to end: no long wait any more. To be called in the loop's thread."""
        self._stopped.set()

    def hold(self, seconds: float) -> None:
        """Nothing goes out for so long."""
        self._next_at = max(self._next_at, time.monotonic() + min(seconds, LONGEST_HOLD_S))


def api_key(config: EndpointConfig) -> str:
    """Raises UserError where the recipe names a variable that is not set, or it holds what no header can."""
    key = os.environ.get(config.api_key_variable, "").strip()
    if not key and config.api_key_variable != DEFAULT_VARIABLE:
        raise UserError(
            f"{config.stage}.api_key_variable names {config.api_key_variable}, which is not set; expected the "
            "endpoint's key in it"
        )
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"the environment's {config.api_key_variable} holds a character that no key has, as a line's end or one "
            "beyond ASCII; expected the endpoint's key alone in it"
        )
    return key or NO_KEY


def check_can_ask(config: EndpointConfig) -> None:
    """Refuse, before anything is read, what names no endpoint, no model or no key. Raises UserError."""
    config.base_url()
    _ = config.who
    api_key(config)


@asynccontextmanager
async def connected(config: EndpointConfig) -> "AsyncIterator[Endpoint]":
    """The endpoint, for as long as the block lasts."""
    import httpx2
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # seconds to import: only who asks pays

    pace, key = Pace(config.requests_per_minute), api_key(config)

    class Client(DefaultAsyncHttpxClient):
        async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
            """At the pace, and whole within the time: the client's own timeout is for each part of an answer."""
            await pace.wait()
            try:
                async with asyncio.timeout(config.timeout_s):
                    response = await super().send(request, **options)
            except TimeoutError as error:
                raise httpx2.ReadTimeout(f"no whole answer in {config.timeout_s:g} s", request=request) from error
            if response.status_code in (429, 503):
                pace.hold(_seconds(response.headers.get("retry-after")))
            return response

    client = AsyncOpenAI(
        api_key=key,
        base_url=config.base_url(),
        max_retries=config.max_retries,
        timeout=config.timeout_s,
        http_client=Client(),
    )
    async with client:
        yield Endpoint(client, config, key, pace)


def _seconds(retry_after: str | None) -> float:
    """Of a Retry-After in seconds; a date is left to the client, which waits for it with the one request."""
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        return 0.0


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What an exception came of, the nearest first."""
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for cause in (*parts, error.__cause__ or error.__context__):
        if cause is not None:
            yield cause
            yield from _causes(cause)


class Endpoint:
    """Questions to one model."""

    def __init__(self, client: "AsyncOpenAI", config: EndpointConfig, key: str, pace: Pace) -> None:
        self._client, self._config, self._key = client, config, key
        self.stop = pace.stop

    def without_key(self, text: str) -> str:
        """A text in which the key does not stand, whatever the endpoint echoes."""
        return text if self._key == NO_KEY else text.replace(self._key, "***")

    async def ask(self, prompt: str, *, temperature: float | None) -> Reply:
        """One question.

        Raises:
            Rejected: it is not taken, say because it is too long.
            Unreachable: no answer after all retries.
            Refuses: no question would be taken.
            Stopped: the run is to end.
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
            raise Unreachable(self._unanswered(error)) from None
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
        return f"{self._config.endpoint} answers {self._shown(str(getattr(error, 'message', error)))}"

    def _shown(self, said: str) -> str:
        """Without the key, and without what would steer a terminal."""
        shown = "".join(char if char.isprintable() else " " for char in self.without_key(said))
        return " ".join(shown.split())[:400]

    def _unanswered(self, error: Exception) -> str:
        """Why no response came, as far as the causes tell."""
        endpoint, causes = self._config.endpoint, list(_causes(error))
        kinds = {type(cause).__name__ for cause in causes}
        if kinds & {"ReadTimeout", "WriteTimeout"}:
            return f"{endpoint} gives no whole answer in {self._config.timeout_s:g} s ({self._config.stage}.timeout_s)"
        if kinds & {"gaierror"}:
            return f"nothing answers at {endpoint}: no such host is known"
        if kinds & {"ConnectionRefusedError"}:
            return f"nothing answers at {endpoint}: the connection is refused"
        told = next((f"{type(cause).__name__}: {cause}" for cause in causes), str(error))
        nothing = "nothing answers at" if kinds & {"ConnectError", "ConnectTimeout"} else "no answer comes from"
        return f"{nothing} {endpoint} ({self._shown(told)})"

    def _way_out(self, error: Exception) -> str:
        config = self._config
        if getattr(error, "status_code", 0) == 404:
            found = f"found {config.stage}.model {config.model}"
            return f"expected the base URL with its /v1, and a model that it has: {found}"
        unset = ", which is not set" if self._key == NO_KEY else ""
        return f"expected a key that it takes in the environment's {config.api_key_variable}{unset}"
