"""The dev set: its queries and corpus by ids, its tokens as training has them, and what is refused."""

import json
from itertools import pairwise

import pytest
from transformers import AutoTokenizer

from pipelines.curate import CurateConfig
from pipelines.stage.errors import UserError
from pipelines.students.config import DistillConfig
from pipelines.students.data.dev_set import build_dev_set, check_dev
from tests.curated_versions import curated, query_in
from tests.tiny import tiny_encoder
from tests.training_data import write_judged

SHARES = CurateConfig(dev_share=0.3, test_share=0.2, max_drop_share=1.0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(tiny_encoder(tmp_path_factory.mktemp("source") / "bert", "bert", num_layers=1))


def config(**changes):
    return DistillConfig(**({"source_model": "none", "max_tokens": 6, "dev_every_steps": 1} | changes))


def texts_of(dev, tokenizer):
    """All texts of a dev set, decoded: queries first."""
    offsets, ids = dev.texts.text_offsets, dev.texts.arrays["token_ids"]
    return [tokenizer.decode(ids[start:end]) for start, end in pairwise(offsets)]


def test_relevant_passages_come_first_then_negatives_then_others(tmp_path, tokenizer):
    asked, trained = [query_in("dev", number, SHARES) for number in range(2)], query_in("train", 0, SHARES)
    rows = [(asked[0], "red cat", 5.0, "blue dog", -5.0), (asked[1], "red fish", 5.0, "blue fish", -5.0)]
    rows += [(trained, f"a king {number}", 5.0, "a queen", -5.0) for number in range(9)]
    version = curated(tmp_path, rows, SHARES)

    dev = build_dev_set(tmp_path / "dev", version, tokenizer, config(dev_passages=6))

    texts = [text.removeprefix("[CLS] ").removesuffix(" [SEP]") for text in texts_of(dev, tokenizer)]
    passages = texts[dev.num_queries :]
    assert (dev.num_queries, dev.name) == (2, f"{version}/dev:6p")
    assert len(passages) == 6
    assert {"red cat", "blue dog", "red fish", "blue fish"} < set(passages)
    assert sorted(passages[passage] for _, passage in dev.relevant.tolist()) == ["red cat", "red fish"]
    assert dev.relevant[:, 0].tolist() == [0, 1]


def test_tokens_are_those_of_training_with_prompts_and_cut(tmp_path, tokenizer):
    version = write_judged(tmp_path, 20, SHARES)
    told = config(query_prompt="red ", passage_prompt="blue ")

    dev = build_dev_set(tmp_path / "dev", version, tokenizer, told)

    queries = (
        version.scan().filter(split="dev").select("query_id", "query").unique().sort("query_id").collect()["query"]
    )
    expected = tokenizer([f"red {query}" for query in queries], truncation=True, max_length=6)["input_ids"]
    offsets, ids = dev.texts.text_offsets, dev.texts.arrays["token_ids"]
    assert dev.num_queries == len(queries)
    assert [ids[offsets[row] : offsets[row + 1]].tolist() for row in range(len(queries))] == expected
    assert all("blue" in text for text in texts_of(dev, tokenizer)[len(queries) :])
    assert dev.texts.text_tokens.max() == 6


def test_the_set_is_a_function_of_version_and_config_and_its_digest_tells_it(tmp_path, tokenizer):
    version = write_judged(tmp_path, 20, SHARES)
    first = build_dev_set(tmp_path / "a", version, tokenizer, config(dev_queries=2, dev_passages=10))
    again = build_dev_set(tmp_path / "b", version, tokenizer, config(dev_queries=2, dev_passages=10))
    other = build_dev_set(tmp_path / "c", version, tokenizer, config(dev_queries=2, dev_passages=11))

    assert json.dumps(first.summary) == json.dumps(again.summary)
    assert first.summary["digest"] != other.summary["digest"]
    assert (first.summary["queries"], first.summary["passages"]) == (2, 10)
    assert first.name == f"{version}/dev:2q,10p"


def test_a_dev_split_that_cannot_be_asked_is_refused_with_what_to_do(tmp_path):
    version = write_judged(tmp_path / "some", 20, SHARES)
    none = write_judged(tmp_path / "none", 10, CurateConfig(dev_share=0.0))
    check_dev(none, config(dev_every_steps=None))
    check_dev(version, config())
    with pytest.raises(UserError, match=r"no query in its dev split: curate again with a curate\.dev_share above 0"):
        check_dev(none, config())
    with pytest.raises(UserError, match=r"have \d relevant passages, more than distill\.dev_passages 2: raise it"):
        check_dev(version, config(dev_passages=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dev_every_steps": None, "early_stop_after": 2}, "early_stop_after counts dev evaluations"),
        ({"dimensions": (8, 4), "dev_dimensions": (8, 2)}, r"dev_dimensions has \[2\], expected some of dimensions"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)
