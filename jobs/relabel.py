"""Have negatives that may be false ones judged by an LLM behind an OpenAI-compatible endpoint, for curate.

Goes on where it stopped; several may run at once.
"""

from jobs.asking import STOPPED, AskingOptions, print_price, with_price
from jobs.options import FromScoresOption, JsonOption, StageOptions, TeacherOption, print_versions


def main(
    *,
    from_: FromScoresOption = None,
    teacher: TeacherOption = None,
    asking: AskingOptions = AskingOptions(),
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> int:
    from jobs.versions import scores_to_read
    from pipelines import relabel
    from pipelines.asking.endpoint import check_can_ask

    sample = asking.number("pairs")
    recipe, tables = with_price(stage, "relabel", asking.price_per_million).load(writes=not asking.dry_run)
    check_can_ask(recipe.relabel)
    scored, teacher = scores_to_read(tables, from_, teacher, recipe)
    if asking.dry_run:
        print_price(relabel.ask_price(scored, recipe.relabel, sample=sample, teacher=teacher), as_json)
        return 0
    relabelling = relabel.run(scored, recipe.relabel, teacher=teacher)
    if relabelling.version:
        print_versions([relabelling.version], as_json)
    return STOPPED if relabelling.left else 0
