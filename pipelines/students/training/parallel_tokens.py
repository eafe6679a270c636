"""Texts to token ids by all cores of a node: one Ray actor each, whose results come back in order.

Each node needs the whole token cache on its own disk, and its cores wait for it: so each node makes its own, with its
own cores, and nothing goes over the network. The actors claim no CPU, as training workers hold them all, waiting.

On few cores the tokenizer's own threads do as well without a process: what they leave to one thread, making arrays of
the ids, is a fifth of the work. So actors are for nodes with more cores than that keeps busy, and for many texts.
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

FEWEST_CPUS = 4  # of a node, for actors

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
    batches, (node, num_cpus) = iter(batches), _this_node()
    yield from encode_here(encoder, islice(batches, BATCHES_ALONE) if num_cpus >= FEWEST_CPUS else batches)
    more = next(batches, None)
    if more is None:
        return
    actors = _actors(encoder, node, num_cpus)
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


def _actors(encoder: Encoder, node: str, number: int) -> list[Any]:
    """So many on the node. When one dies, so does this training worker, which Ray Train begins again."""
    on_node = NodeAffinitySchedulingStrategy(node, soft=False)
    remote, kept = ray.remote(_Encoding).options(scheduling_strategy=on_node, num_cpus=0), ray.put(encoder)
    return [remote.remote(kept) for _ in range(number)]


def _this_node() -> tuple[str, int]:
    """Its id, and its CPUs."""
    here = ray.get_runtime_context().get_node_id()
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return here, int(next(node["Resources"].get("CPU", 0) for node in nodes if node["NodeID"] == here))
