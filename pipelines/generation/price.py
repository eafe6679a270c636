"""What a generation will cost before it is paid for: passages counted, tokens from a sample or from what is there.

Input tokens follow the characters of the prompts, which are known of each passage up to the candidates that its query
will find; output tokens and calls are taken per passage. Errors are standard errors of the ratio (stage/sample.py).
"""

from typing import Any, NamedTuple

import polars as pl

from pipelines.generation.commits import Plan
from pipelines.generation.config import GenerateConfig
from pipelines.stage.render import aligned_table
from pipelines.stage.sample import Ratio, ratio, sums

CHARS_PER_TOKEN = 4.0
"""Where nothing was asked: about that of English text in the tokenizers of 2023 to 2026."""


class Amount(NamedTuple):
    """Of all that is left."""

    value: float
    error: float  # standard; inf where one row says nothing of the others


class Price(NamedTuple):
    """What is done, what is left, and what that takes."""

    config: GenerateConfig
    passages: int  # wanted
    done: int
    again: int  # of those left, whose endpoint failed
    spent: tuple[int, int]  # input and output tokens so far
    sampled: int  # rows that tell; 0: nothing was asked
    pairs: float | None  # share of them that has a pair
    calls: Amount
    input_tokens: Amount
    output_tokens: Amount | None  # None: the endpoint does not say, or nothing was asked

    @property
    def left(self) -> int:
        return self.passages - self.done

    @property
    def cost(self) -> Amount | None:
        """None where no price is given, or the output is not known."""
        if self.config.price_per_million is None or self.output_tokens is None:
            return None
        of_input, of_output = (price / 1e6 for price in self.config.price_per_million)
        value = self.input_tokens.value * of_input + self.output_tokens.value * of_output
        return Amount(value, self.input_tokens.error * of_input + self.output_tokens.error * of_output)

    @property
    def most_output_tokens(self) -> int:
        return round(self.calls.value * self.config.max_output_tokens)

    def told(self) -> dict[str, Any]:
        """For programs."""
        cost, output = self.cost, self.output_tokens
        return {
            "generator": self.config.generator,
            "passages": self.passages,
            "done": self.done,
            "left": self.left,
            "asked_again": self.again,
            "input_tokens_spent": self.spent[0],
            "output_tokens_spent": self.spent[1],
            "cost_spent": self.config.cost(*self.spent),
            "sampled": self.sampled,
            "pairs_share": self.pairs,
            "calls": round(self.calls.value),
            "input_tokens": round(self.input_tokens.value),
            "input_tokens_error": _finite(self.input_tokens.error),
            "output_tokens": round(output.value) if output else None,
            "output_tokens_error": _finite(output.error) if output else None,
            "output_tokens_at_most": self.most_output_tokens,
            "cost": cost.value if cost else None,
            "cost_error": _finite(cost.error) if cost else None,
            "max_cost": self.config.max_cost,
        }

    def lines(self) -> list[str]:
        """For people."""
        known = f"from {self.sampled:,} passages" if self.sampled else f"{CHARS_PER_TOKEN:g} characters a token"
        known = known if self.left else "counted"
        rows = [["passages", f"{self.done:,}", f"{self.left:,}", "counted"]]
        rows.append(["calls", "", f"{self.calls.value:,.0f}", known if self.sampled else "counted"])
        rows.append(["input tokens", f"{self.spent[0]:,}", _amount(self.input_tokens, ",.0f"), known])
        if self.output_tokens:
            rows.append(["output tokens", f"{self.spent[1]:,}", _amount(self.output_tokens, ",.0f"), known])
        else:
            rows.append(["output tokens", f"{self.spent[1]:,}", f"{self.most_output_tokens:,}", "at most"])
        if cost := self.cost:
            rows.append(["cost", f"{self.config.cost(*self.spent) or 0:,.4f}", _amount(cost, ",.4f"), known])
        lines = aligned_table(["what", "done", "left", "how known"], rows).split("\n")
        if self.pairs is not None:
            lines.append(f"  {self.pairs:.1%} of these {self.sampled:,} passages got a pair")
        return lines


def _amount(amount: Amount, form: str) -> str:
    if amount.error == float("inf"):
        return f"{amount.value:{form}} +- not known"
    return f"{amount.value:{form}}" + (f" +- {amount.error:{form}}" if amount.error else "")


def _finite(error: float) -> float | None:
    return None if error == float("inf") else error


def price(left: Plan, known: pl.DataFrame, passages: pl.DataFrame, config: GenerateConfig) -> Price:
    """From rows of the same generator over some passages, `known`: passage, reason, calls and tokens of each."""
    number = len(left.seeds)
    told = known.drop_nulls(["input_tokens", "output_tokens"])
    chars, each = _prompt_chars(passages, config), 2 if config.ranker == "llm" else 1
    unread = pl.DataFrame({"passage": [seed.columns["passage"] for seed in left.seeds]}, schema={"passage": pl.String})
    all_chars = float(unread.select(chars.sum()).item())
    begun = (config, left.wanted, left.wanted - number, number - left.num_unasked, left.spent[1:])
    if told.is_empty() or not number:
        calls, tokens = Amount(number * each, 0.0), Amount(all_chars / CHARS_PER_TOKEN, 0.0)
        output = Amount(0.0, 0.0) if not number else None
        return Price(*begun, 0, None, calls, tokens, output)
    rows = told.with_columns(chars=chars, passages=pl.lit(1.0))
    share = min(1.0, len(rows) / number) if left.done.is_empty() else 0.0
    return Price(
        *begun,
        len(rows),
        rows["reason"].null_count() / len(rows),
        calls=_scaled(rows, "calls", "passages", number, share),
        input_tokens=_scaled(rows, "input_tokens", "chars", all_chars, share),
        output_tokens=_scaled(rows, "output_tokens", "passages", number, share),
    )


def _prompt_chars(passages: pl.DataFrame, config: GenerateConfig) -> pl.Expr:
    """Characters of a passage's prompts: of the first as it is, of the second with candidates of the mean length."""
    fixed, text = float(len(config.write_prompt)), pl.col("passage").str.len_chars()
    if config.ranker == "llm":
        shown = passages.select(text.clip(upper_bound=config.candidate_chars).mean()).item()
        fixed += len(config.rank_prompt) + min(config.candidates, len(passages)) * (shown + len("[10] \n\n"))
    return text.clip(upper_bound=config.passage_chars) + fixed


def _scaled(rows: pl.DataFrame, of: str, per: str, whole: float, share: float) -> Amount:
    found: Ratio = ratio(share, **rows.select(**sums(of, per)).row(0, named=True))
    return Amount(found.value * whole, found.standard_error * whole)
