"""Write queries for passages by an LLM behind an OpenAI-compatible endpoint, with a positive and a hard negative each.

Goes on where it stopped; several may run at once.
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobs.options import NUMBER, IntakeOptions, JsonOption, StageOptions, print_versions
from pipelines.stage.errors import UserError

if TYPE_CHECKING:
    from pipelines.generation.passages import Told

STOPPED = 3  # by the budget: the same command goes on with a larger one
SAMPLE = 50
PriceOption = Annotated[
    str | None,
    Parameter("--price-per-million", help="what a million input and output tokens cost, e.g. 0.15,0.60"),
]


def main(
    *,
    dry_run: Annotated[bool, Parameter("--dry-run", help="ask a sample, and say what all of it would cost")] = False,
    sample: Annotated[
        int | None, Parameter("--sample", help="with --dry-run: passages that are asked, 50 if not given")
    ] = None,
    price_per_million: PriceOption = None,
    intake: IntakeOptions,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> int:
    from pipelines import generate

    if sample is not None and (not dry_run or sample < 0):
        raise UserError(f"--sample {sample}: expected 0 or more passages, beside --dry-run")
    stage = replace(stage, set_=[*(stage.set_ or []), *price_override(price_per_million)])
    recipe, tables = stage.load(writes=not dry_run)
    told, number = told_of(intake), SAMPLE if sample is None else sample
    if dry_run:
        price = generate.ask_price(tables, intake.input_, recipe.generate, told=told, sample=number)
        print(*([json.dumps(price.told())] if as_json else price.lines()), sep="\n")
        return 0
    generation = generate.run(tables, intake.input_, recipe.generate, told=told)
    if generation.version:
        print_versions([generation.version], as_json)
    return STOPPED if generation.left else 0


def told_of(intake: IntakeOptions) -> "Told":
    """What the options say of the passages."""
    from pipelines.generation.passages import Told

    return Told(**intake.described())


def price_override(price_per_million: str | None, stage: str = "generate") -> list[str]:
    """What `--price-per-million` says, as --set does. Raises UserError where it is no two numbers."""
    if price_per_million is None:
        return []
    prices = [part.strip() for part in price_per_million.split(",")]
    if len(prices) != 2 or not all(map(NUMBER.fullmatch, prices)):
        raise UserError(f"--price-per-million {price_per_million!r}: expected two numbers, input and output: 0.15,0.60")
    return [f"{stage}.price_per_million=[{', '.join(str(float(price)) for price in prices)}]"]
