"""Make triplets of pairs (or a BEIR folder): BM25 and random negatives."""

from typing import Annotated

from cyclopts import Parameter

from jobs.options import IntakeOptions, JsonOption, StageOptions, print_versions


def main(
    *,
    passages: Annotated[str | None, Parameter("--passages", help="further passages to take negatives from")] = None,
    intake: IntakeOptions,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    from pipelines import mine

    recipe, tables = stage.load()
    version = mine.run(tables, intake.input_, recipe.mine, passages=passages, **intake.described())
    print_versions([version], as_json)
