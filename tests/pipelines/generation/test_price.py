"""What a generation will cost, by hand: tokens follow the prompts' characters, calls the passages."""

import polars as pl
import pytest

from pipelines.asking.book import Plan
from pipelines.asking.rows import Seed
from pipelines.generation.config import GenerateConfig
from pipelines.generation.price import price

CONFIG = GenerateConfig(model="m", ranker="seed", write_prompt="{passage}:", price_per_million=(1e6, 2e6))
FIXED = len("{passage}:")
PASSAGES = pl.DataFrame({"passage": ["a" * 10, "b" * 30, "c" * 50, "d" * 70]})
NO_ROWS = pl.DataFrame(schema={"passage_id": pl.String, "reason": pl.String})


def left(*passages, done=NO_ROWS, spent=(0, 0, 0)):
    seeds = [Seed((text,), {"passage": text}) for text in passages]
    return Plan(len(passages) + len(done), seeds, done, spent)


def known(*rows):
    columns = {"passage": pl.String, "reason": pl.String, "calls": pl.Int32}
    columns |= {"input_tokens": pl.Int64, "output_tokens": pl.Int64}
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_a_sample_is_scaled_by_the_characters_of_what_is_left():
    sample = known(("a" * 10, None, 1, 10, 4), ("b" * 30, "refused", 1, 20, 2))
    found = price(left(*PASSAGES["passage"]), sample, PASSAGES, CONFIG)

    per_char = (10 + 20) / (10 + 30 + 2 * FIXED)
    assert found.input_tokens.value == pytest.approx(per_char * (10 + 30 + 50 + 70 + 4 * FIXED))
    assert found.output_tokens.value == pytest.approx(4 * 3)
    assert found.calls.value == 4
    assert found.share == 0.5
    assert found.cost.value == pytest.approx(found.input_tokens.value + 2 * 12)
    # of two rows with 4 and 2: their variance 2, half of the whole not seen
    assert found.output_tokens.error == pytest.approx(4 * (2 / 2 * (1 - 2 / 4)) ** 0.5)


def test_all_that_is_left_asked_leaves_no_error():
    sample = known(*((text, None, 1, len(text), 1) for text in PASSAGES["passage"]))
    found = price(left(*PASSAGES["passage"]), sample, PASSAGES, CONFIG)

    assert found.input_tokens == (pytest.approx(160), 0.0)


def test_without_a_sample_output_and_cost_are_told_by_the_longest_answers():
    found = price(left("a" * 40), known(), PASSAGES, CONFIG)

    assert found.input_tokens.value == (40 + FIXED) / 4
    assert (found.output_tokens, found.cost, found.most_output_tokens) == (None, None, 512)
    most = (40 + FIXED) / 4 + 2 * 512
    assert (found.told()["cost"], found.told()["cost_of_longest_answers"]) == (None, most)
    *_, output, cost = found.lines()
    assert output.split() == ["output", "tokens", "0", "512", "at", "most"]
    assert cost.split() == [
        "cost",
        "0.0000",
        f"{most:,.4f}",
        *"about, at 4 characters a token, were each answer as long as it may be".split(),
    ]


def test_without_a_price_no_cost_is_told():
    found = price(left("a" * 40), known(), PASSAGES, CONFIG.model_copy(update={"price_per_million": None}))

    assert found.told()["cost_of_longest_answers"] is None
    assert "cost" not in "\n".join(found.lines())


def test_candidates_count_with_the_mean_length_that_is_shown():
    config = CONFIG.model_copy(
        update={"ranker": "llm", "rank_prompt": "{task}", "candidates": 2, "candidate_chars": 40}
    )
    found = price(left("a" * 10), known(), PASSAGES, config)

    shown = (10 + 30 + 40 + 40) / 4
    assert found.calls.value == 2
    assert found.input_tokens.value == pytest.approx((10 + FIXED + len("{task}") + 2 * (shown + 7)) / 4)


def test_where_nothing_is_left_nothing_is_to_pay():
    found = price(left(done=NO_ROWS, spent=(2, 10, 3)), known(), PASSAGES, CONFIG)

    assert (found.left, found.cost.value, found.told()["cost_spent"]) == (0, 0.0, 16.0)


@pytest.mark.parametrize(
    ("spent", "done", "how"), [((2, 0, 0), "not said", "the endpoint does not say"), ((2, 10, 3), "at least 10", "")]
)
def test_what_the_endpoint_does_not_say_is_not_told_as_nothing(spent, done, how):
    found = price(left(spent=spent)._replace(untold=1), known(), PASSAGES, CONFIG)

    (line,) = (line for line in found.lines() if "input tokens" in line)
    assert done in line
    assert how in line
    assert found.told()["rows_without_tokens"] == 1


def test_a_sample_of_which_the_endpoint_says_nothing_is_told_as_such():
    found = price(left("a" * 40), known(("a" * 10, None, 1, None, None)), PASSAGES, CONFIG)

    assert "not said" in "\n".join(found.lines())
