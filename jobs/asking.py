"""What the commands share that ask an LLM's endpoint: a dry run of a sample, and what tokens cost."""

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobs.options import NUMBER, StageOptions
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from pipelines.asking.price import Price

STOPPED = 3  # by the budget: the same command goes on with a larger one
SAMPLE = 50
PriceOption = Annotated[
    str | None,
    Parameter("--price-per-million", help="what a million input and output tokens cost, e.g. 0.15,0.60"),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AskingOptions:
    """What it would cost, said beforehand."""

    dry_run: Annotated[bool, Parameter("--dry-run", help="ask a sample, and say what all of it would cost")] = False
    sample: Annotated[
        int | None, Parameter("--sample", help=f"with --dry-run: how many are asked, {SAMPLE} if not given")
    ] = None
    price_per_million: PriceOption = None

    def number(self, unit: str) -> int:
        """How many are asked by a dry run. Raises UserError for a sample that is none, or that nothing asks for."""
        if self.sample is not None and (not self.dry_run or self.sample < 0):
            raise UserError(f"--sample {self.sample}: expected 0 or more {unit}, beside --dry-run")
        return SAMPLE if self.sample is None else self.sample


def with_price(stage: StageOptions, name: str, price_per_million: str | None) -> StageOptions:
    """With what `--price-per-million` says, as --set does. Raises UserError where it is no two numbers."""
    if price_per_million is None:
        return stage
    prices = [part.strip() for part in price_per_million.split(",")]
    if len(prices) != 2 or not all(map(NUMBER.fullmatch, prices)):
        raise UserError(f"--price-per-million {price_per_million!r}: expected two numbers, input and output: 0.15,0.60")
    said = f"{name}.price_per_million=[{', '.join(str(float(price)) for price in prices)}]"
    return replace(stage, set_=[*(stage.set_ or []), said])


def print_price(price: "Price", as_json: bool) -> None:
    print(*([json.dumps(price.told())] if as_json else price.lines()), sep="\n")
