"""A real HTTP server that speaks the OpenAI chat API and answers by rules: for tests of generate and
relabel, no model behind it.

    with serving(Faults(fails=0.1, malformed=0.1)) as server: GenerateConfig(endpoint=server.url, model="rules")

It writes a query out of some of a passage's words, and grades candidates and judges by the query's words that they
hold: a passage is relevant that has three in five of them. What fails
follows from a seed, the request and how often it came; what is malformed, refused or rejected from the request alone.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAILURES = ("500", "429", "dropped")
QUERY_WORDS = 5
VERDICT = '"verdict"'


@dataclass
class Faults:
    """Shares of requests, 0 to 1, and what stands against all of them."""

    fails: float = 0.0  # 500, 429 with Retry-After, a dropped connection; tried again it may be answered
    malformed: float = 0.0
    refused: float = 0.0
    rejected: float = 0.0  # 400
    status: int = 0  # of every answer, say 401
    counts_tokens: bool = True
    key: str = ""  # the only one that is let in
    latency_s: float = 0.0
    seed: int = 0


@dataclass
class Ledger:
    """What came, and what was answered."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)  # by prompt
    input_tokens: int = 0
    output_tokens: int = 0
    most_at_once: int = 0
    at_once: int = 0
    came_at: list[float] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def written(self) -> list[int]:
        """How often each passage's first question was answered; the second is one where two queries are alike."""
        return [times for prompt, times in self.answered.items() if "Passage:\n" in prompt]

    def judged(self) -> list[int]:
        """How often each pair was answered."""
        return [times for prompt, times in self.answered.items() if VERDICT in prompt]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, faults: Faults) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.ledger, self.lock = faults, Ledger(), threading.Lock()
        self.seen = Counter[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed has gone: that is what the tests do."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        ledger, lock = self.server.ledger, self.server.lock
        with lock:
            ledger.requests += 1
            ledger.came_at.append(time.monotonic())
            ledger.at_once += 1
            ledger.most_at_once = max(ledger.most_at_once, ledger.at_once)
            body = json.loads(raw)
            ledger.bodies.append(body)
            prompt = body["messages"][-1]["content"]
            attempt = self.server.seen[prompt]
            self.server.seen[prompt] += 1
        try:
            time.sleep(self.server.faults.latency_s)
            self._answer(prompt, attempt)
        finally:
            with lock:
                ledger.at_once -= 1

    def _answer(self, prompt: str, attempt: int) -> None:
        faults, ledger = self.server.faults, self.server.ledger
        if faults.status or (faults.key and self.headers.get("Authorization") != f"Bearer {faults.key}"):
            return self._error(faults.status or 401, f"no entry with {self.headers.get('Authorization')}")
        if drawn(faults.seed, f"{prompt}\0{attempt}", "fails") < faults.fails:
            kind = FAILURES[int(3 * drawn(faults.seed, f"{prompt}\0{attempt}", "kind"))]
            with self.server.lock:
                ledger.failures[kind] += 1
            if kind == "dropped":
                self.close_connection = True
                return self.connection.close()
            return self._error(int(kind), "busy", {"Retry-After": "0.05"} if kind == "429" else {})
        if drawn(faults.seed, prompt, "rejected") < faults.rejected:
            return self._error(400, "this passage is too long for the model")
        text = answer_to(prompt)
        if drawn(faults.seed, prompt, "malformed") < faults.malformed:
            text = text[: len(text) // 2]
        elif drawn(faults.seed, prompt, "refused") < faults.refused:
            text = "I'm sorry, but I can't help with that."
        usage = {"prompt_tokens": tokens(prompt), "completion_tokens": tokens(text)}
        with self.server.lock:
            ledger.answered[prompt] += 1
            ledger.input_tokens += usage["prompt_tokens"]
            ledger.output_tokens += usage["completion_tokens"]
        message = {"role": "assistant", "content": text}
        completion: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": "rules"}
        completion["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        if faults.counts_tokens:
            completion["usage"] = usage | {"total_tokens": sum(usage.values())}
        self._send(200, completion, {})

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, {"error": {"message": message, "type": "x", "code": None}}, headers or {})

    def _send(self, status: int, value: dict[str, Any], headers: dict[str, str]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in ({"Content-Type": "application/json", "Content-Length": str(len(content))} | headers).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)


def drawn(seed: int, request: str, what: str) -> float:
    """0 to 1, always the same for the same words."""
    digest = hashlib.sha256(f"{seed}\0{what}\0{request}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def tokens(text: str) -> int:
    """One for each word and each other sign, as tokenizers about have it."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def answer_to(prompt: str) -> str:
    """By rules, as the two prompts of pipelines/generation/prompts.py ask, and that of pipelines/judging/config.py."""
    if VERDICT in prompt:
        return json.dumps({"verdict": "relevant" if is_relevant(prompt) else "not_relevant"})
    if "Passage:\n" in prompt:
        return json.dumps({"task": "Find a passage that answers the question", "query": query_of(prompt)})
    query = re.search(r"^Query: (.*)$", prompt, re.MULTILINE)
    assert query is not None, "neither of the two prompts"
    asked = words(query[1]) - words("which passage tells about")
    candidates = re.split(r"^\[\d+\] ", prompt.partition("about another.")[2].partition("\nAnswer with")[0], flags=re.M)
    shares = [len(asked & words(text)) / max(1, len(asked)) for text in candidates[1:]]
    grades = {str(number): sum(share >= least for least in (0.2, 0.6, 0.99)) for number, share in enumerate(shares, 1)}
    return json.dumps({"grades": grades})


def is_relevant(prompt: str) -> bool:
    query, _, rest = prompt.removeprefix("Query: ").partition("\n\nPassage:\n")
    passage = rest.partition("\n\nIs this passage")[0]
    return len(words(query) & words(passage)) >= 0.6 * len(words(query))


def query_of(prompt: str) -> str:
    found = sorted(words(prompt.partition("Passage:\n")[2]))
    chosen = sorted(found, key=lambda word: (-len(word), drawn(0, word, "word")))[:QUERY_WORDS]
    return f"which passage tells about {' '.join(chosen)}?"


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


@contextmanager
def serving(faults: Faults | None = None) -> Iterator[Server]:
    """The server, in threads of this process, for as long as the block lasts."""
    server = Server(faults or Faults())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
