"""Batches encoded by a node's actors come back in their order, with the ids that one process gives, and few at once."""

import random

import numpy as np
import ray

from pipelines.students.data.encode import encode_here, frozen
from pipelines.students.training import parallel_tokens
from tests.tiny import WORDS, tiny_tokenizer


def test_actors_give_the_same_ids_in_the_same_order_and_are_gone_at_the_end(ray_cluster, monkeypatch):
    monkeypatch.setattr(parallel_tokens, "BATCHES_ALONE", 2)
    monkeypatch.setattr(parallel_tokens, "FEWEST_CPUS", 1)
    words = random.Random(0)
    batches = [[" ".join(words.choices(WORDS, k=words.randint(1, 30))) for _ in range(5)] for _ in range(23)]
    encoder = frozen(tiny_tokenizer("bert"), max_tokens=16)
    taken = 0

    def handed_out():
        nonlocal taken
        for batch in batches:
            taken += 1
            yield batch

    alone, among = list(encode_here(encoder, batches)), []
    for encoded in parallel_tokens.encode_on_node(encoder, handed_out()):
        among.append(encoded)
        assert taken <= len(among) + parallel_tokens.BATCHES_PER_ACTOR * ray.cluster_resources()["CPU"]

    assert len(among) == len(alone)
    for one, other in zip(alone, among, strict=True):
        assert (one.num_cut, one.text_tokens.tolist()) == (other.num_cut, other.text_tokens.tolist())
        np.testing.assert_array_equal(one.token_ids, other.token_ids)
