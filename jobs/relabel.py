"""Have negatives that may be false ones judged by an LLM behind an OpenAI-compatible endpoint, for curate.

Goes on where it stopped; several may run at once.
"""

import json
from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from jobs.generate import SAMPLE, STOPPED, PriceOption, price_override
from jobs.options import JsonOption, StageOptions, print_versions
from pipelines.stage.errors import UserError


def main(
    *,
    from_: Annotated[
        str | None, Parameter("--from", help="scored_triplets@version; the newest complete one if not given")
    ] = None,
    teacher: Annotated[
        str | None, Parameter("--teacher", help="whose scores; else those of the recipe's teacher")
    ] = None,
    dry_run: Annotated[bool, Parameter("--dry-run", help="ask a sample, and say what all of it would cost")] = False,
    sample: Annotated[
        int | None, Parameter("--sample", help="with --dry-run: pairs that are asked, 50 if not given")
    ] = None,
    price_per_million: PriceOption = None,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> int:
    from jobs.versions import scores_to_read
    from pipelines import relabel
    from pipelines.asking.endpoint import check_can_ask

    if sample is not None and (not dry_run or sample < 0):
        raise UserError(f"--sample {sample}: expected 0 or more pairs, beside --dry-run")
    stage = replace(stage, set_=[*(stage.set_ or []), *price_override(price_per_million, "relabel")])
    recipe, tables = stage.load(writes=not dry_run)
    check_can_ask(recipe.relabel)
    scored, teacher = scores_to_read(tables, from_, teacher, recipe)
    if dry_run:
        number = SAMPLE if sample is None else sample
        price = relabel.ask_price(scored, recipe.relabel, sample=number, teacher=teacher)
        print(*([json.dumps(price.told())] if as_json else price.lines()), sep="\n")
        return 0
    relabelling = relabel.run(scored, recipe.relabel, teacher=teacher)
    if relabelling.version:
        print_versions([relabelling.version], as_json)
    return STOPPED if relabelling.left else 0
