"""What all that is left will cost before it is paid for: rows counted, tokens from a sample or from what is there.

Input tokens follow the characters of the prompts; output tokens and calls are taken per row. Errors are standard errors
of the ratio (stage/sample.py).
"""

from typing import Any, NamedTuple

import polars as pl

from pipelines.asking.book import Plan
from pipelines.asking.config import EndpointConfig
from pipelines.stage.render import aligned_table
from pipelines.stage.sample import Ratio, ratio, sums

CHARS_PER_TOKEN = 4.0
"""Where nothing was asked: about that of English text in the tokenizers of 2023 to 2026."""
LONGEST = f"about, at {CHARS_PER_TOKEN:g} characters a token, were each answer as long as it may be"


class Amount(NamedTuple):
    """Of all that is left."""

    value: float
    error: float  # standard; inf where one row says nothing of the others


class Price(NamedTuple):
    """What is done, what is left, and what that takes."""

    config: EndpointConfig
    wanted: int
    done: int
    again: int  # of those left, whose endpoint failed
    spent: tuple[int, int]  # input and output tokens so far, as far as the endpoint says
    at_least: str | None  # as `Plan.at_least`
    untold: int  # rows of which it does not say
    sampled: int  # rows that tell; 0: nothing was asked
    share: float | None  # of them that came out as `config.share` says
    calls: Amount
    input_tokens: Amount
    output_tokens: Amount | None  # None: the endpoint does not say, or nothing was asked

    @property
    def left(self) -> int:
        return self.wanted - self.done

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

    @property
    def cost_of_longest(self) -> float | None:
        """Of the input as it is told (no bound), were each answer as long as it may be; None without a price."""
        return self.config.cost(self.input_tokens.value, self.most_output_tokens)

    def told(self) -> dict[str, Any]:
        """For programs."""
        cost, output = self.cost, self.output_tokens
        return {
            self.config.role: self.config.who,
            self.config.unit: self.wanted,
            "done": self.done,
            "left": self.left,
            "asked_again": self.again,
            "input_tokens_spent": self.spent[0],
            "output_tokens_spent": self.spent[1],
            "cost_spent": self.config.cost(*self.spent),
            "rows_without_tokens": self.untold,
            "sampled": self.sampled,
            self.config.share[0]: self.share,
            "calls": round(self.calls.value),
            "input_tokens": round(self.input_tokens.value),
            "input_tokens_error": _finite(self.input_tokens.error),
            "output_tokens": round(output.value) if output else None,
            "output_tokens_error": _finite(output.error) if output else None,
            "output_tokens_at_most": self.most_output_tokens,
            "cost": cost.value if cost else None,
            "cost_error": _finite(cost.error) if cost else None,
            "cost_of_longest_answers": self.cost_of_longest,
            "max_cost": self.config.max_cost,
        }

    def lines(self) -> list[str]:
        """For people."""
        known = (
            f"from {self.sampled:,} {self.config.unit}" if self.sampled else f"{CHARS_PER_TOKEN:g} characters a token"
        )
        known = known if self.left else "counted" if self.at_least is not None else "the endpoint does not say"
        rows = [[self.config.unit, f"{self.done:,}", f"{self.left:,}", "counted"]]
        rows.append(["calls", "", f"{self.calls.value:,.0f}", known if self.sampled else "counted"])
        of_input, of_output = (self._spent(f"{spent:,}") for spent in self.spent)
        rows.append(["input tokens", of_input, _amount(self.input_tokens, ",.0f"), known])
        if self.output_tokens:
            rows.append(["output tokens", of_output, _amount(self.output_tokens, ",.0f"), known])
        else:
            rows.append(["output tokens", of_output, f"{self.most_output_tokens:,}", "at most"])
        if (longest := self.cost_of_longest) is not None:
            spent = self._spent(f"{self.config.cost(*self.spent) or 0:,.4f}")
            cost = self.cost
            rows.append(["cost", spent, *([_amount(cost, ",.4f"), known] if cost else [f"{longest:,.4f}", LONGEST])])
        lines = aligned_table(["what", "done", "left", "how known"], rows).split("\n")
        if self.untold:
            lines.append(f"  of {self.untold:,} rows the endpoint does not say how many tokens they took")
        if self.share is not None:
            lines.append(f"  {self.share:.1%} of these {self.sampled:,} {self.config.unit} {self.config.share[1]}")
        return lines

    def _spent(self, amount: str) -> str:
        return "not said" if self.at_least is None else f"{self.at_least}{amount}"


def _amount(amount: Amount, form: str) -> str:
    if amount.error == float("inf"):
        return f"{amount.value:{form}} +- not known"
    return f"{amount.value:{form}}" + (f" +- {amount.error:{form}}" if amount.error else "")


def _finite(error: float) -> float | None:
    return None if error == float("inf") else error


def price(
    left: Plan, known: pl.DataFrame, config: EndpointConfig, *, chars: pl.Expr, calls: int, is_good: pl.Expr
) -> Price:
    """From rows of the same model, `known`.

    Args:
        chars: characters of a row's prompts, from the columns of a seed or a known row.
        calls: that a row takes.
        is_good: which of the known rows came out as `config.share` says.
    """
    number = len(left.seeds)
    told = known.drop_nulls(["input_tokens", "output_tokens"])
    texts = chars.meta.root_names()
    unread = pl.DataFrame({name: [seed.columns[name] for seed in left.seeds] for name in texts}, strict=False)
    all_chars = float(unread.select(chars.sum()).item() or 0) if number else 0.0
    done = (left.wanted, left.wanted - number, number - left.num_unasked)
    says_nothing = len(known) and told.is_empty() and not any(left.spent[1:])
    begun = (config, *done, left.spent[1:], None if says_nothing else left.at_least, left.untold)
    if told.is_empty() or not number:
        asked, tokens = Amount(number * calls, 0.0), Amount(all_chars / CHARS_PER_TOKEN, 0.0)
        return Price(*begun, 0, None, asked, tokens, Amount(0.0, 0.0) if not number else None)
    rows = told.with_columns(chars=chars, rows=pl.lit(1.0))
    share = min(1.0, len(rows) / number) if left.done.is_empty() else 0.0
    return Price(
        *begun,
        len(rows),
        float(rows.select(is_good.mean()).item()),
        calls=_scaled(rows, "calls", "rows", number, share),
        input_tokens=_scaled(rows, "input_tokens", "chars", all_chars, share),
        output_tokens=_scaled(rows, "output_tokens", "rows", number, share),
    )


def _scaled(rows: pl.DataFrame, of: str, per: str, whole: float, share: float) -> Amount:
    found: Ratio = ratio(share, **rows.select(**sums(of, per)).row(0, named=True))
    return Amount(found.value * whole, found.standard_error * whole)
