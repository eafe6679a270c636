"""What training reads from the token cache: padded rows, and how long each group's texts are."""

import numpy as np
import pytest

from pipelines.storage import Tables
from pipelines.students.config import DistillConfig
from pipelines.students.data.token_cache import TokenCache
from pipelines.students.data.tokenise import build_token_cache
from tests.tiny import tiny_tokenizer
from tests.training_data import write_curated


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> TokenCache:
    folder = tmp_path_factory.mktemp("cache")
    curated = write_curated(Tables.at(str(folder / "tables")), num_queries=9)
    return build_token_cache(folder / "cache", curated, tiny_tokenizer("bert"), DistillConfig(max_tokens=32))


def test_padding_is_masked_on_the_right(cache):
    ids, mask = cache.padded(np.arange(len(cache.text_tokens)), pad_token_id=77)

    assert (mask.sum(axis=1) == cache.text_tokens).all()
    assert (ids[mask == 0] == 77).all()
    assert (np.diff(mask, axis=1) <= 0).all()


def test_group_tokens_is_the_mean_length_of_its_triplets_texts(cache, monkeypatch):
    monkeypatch.setattr("pipelines.students.data.token_cache.GROUPS_PER_SUM", 4)
    triplet_tokens = cache.text_tokens[cache.arrays["triplet_texts"]]

    for group, tokens in enumerate(cache.group_tokens()):
        rows = triplet_tokens[cache.group_offsets[group] : cache.group_offsets[group + 1]]
        assert tokens == int(rows.mean())
