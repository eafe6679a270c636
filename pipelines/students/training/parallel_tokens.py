"""Texts to token ids by all cores of a node: one Ray actor each, whose results come back in order.

Each node needs the whole token cache on its own disk, and its cores wait for it: so each node makes its own, with its
own cores, and nothing goes over the network. The actors claim no CPU, as training workers hold them all, waiting.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.students.data.encode import Encoded, Encoder, encode_here

BATCHES_ALONE = 50
"""So many batches are encoded here: sooner done than processes are started (a second or two each)."""

BATCHES_PER_ACTOR = 3  # on their way to or from each


class _Encoding:
    """One process with a tokenizer, of one thread."""

    def __init__(self, encoder: Encoder) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self.encode = encoder.encode

    def __call__(self, texts: list[str]) -> Encoded:
        return self.encode(texts)


def encode_on_node(encoder: Encoder, batches: Iterable[list[str]]) -> Iterator[Encoded]:
    """As `encode_here`: the same ids in the same order, in bounded memory."""
    batches = iter(batches)
    yield from encode_here(encoder, islice(batches, BATCHES_ALONE))
    more = next(batches, None)
    if more is None:
        return
    actors = _actors(encoder)
    waiting: deque[Any] = deque()
    try:
        for number, batch in enumerate(chain([more], batches)):
            waiting.append(actors[number % len(actors)].__call__.remote(batch))
            if len(waiting) >= BATCHES_PER_ACTOR * len(actors):
                yield ray.get(waiting.popleft())
        while waiting:
            yield ray.get(waiting.popleft())
    finally:
        for actor in actors:
            ray.kill(actor)


def _actors(encoder: Encoder) -> list[Any]:
    """As many as this node has CPUs, on this node; one that dies is made anew, and does its batches again."""
    here = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    num_cpus = next(node["Resources"].get("CPU", 1) for node in nodes if node["NodeID"] == here)
    lasting = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    remote = ray.remote(_Encoding).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False), **lasting
    )
    kept = ray.put(encoder)
    return [remote.remote(kept) for _ in range(max(1, int(num_cpus)))]
