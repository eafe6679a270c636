"""Write queries for passages by an LLM behind an OpenAI-compatible endpoint, with a positive and a hard negative each.

Goes on where it stopped; several may run at once.
"""

from typing import TYPE_CHECKING

from jobs.asking import STOPPED, AskingOptions, print_price, with_price
from jobs.options import IntakeOptions, JsonOption, StageOptions, print_versions

if TYPE_CHECKING:
    from pipelines.generation.passages import Told


def main(
    *,
    asking: AskingOptions = AskingOptions(),
    intake: IntakeOptions,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> int:
    from pipelines import generate

    sample = asking.number("passages")
    recipe, tables = with_price(stage, "generate", asking.price_per_million).load(writes=not asking.dry_run)
    told = told_of(intake)
    config = recipe.generate.ranked_by(recipe.score)
    if asking.dry_run:
        print_price(generate.ask_price(tables, intake.input_, config, told=told, sample=sample), as_json)
        return 0
    generation = generate.run(tables, intake.input_, config, told=told)
    if generation.version:
        print_versions([generation.version], as_json)
    return STOPPED if generation.left else 0


def told_of(intake: IntakeOptions) -> "Told":
    """What the options say of the passages."""
    from pipelines.generation.passages import Told

    return Told(**intake.described())
