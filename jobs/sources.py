"""Judge each source of a curation: what the teacher thinks of it, and what it should weigh.

--weights prints a recipe's table of them, --leave-out a study that trains without each source in turn.
"""

import sys
from typing import Annotated

from cyclopts import Parameter

from jobs.options import DEFAULT_RECIPE, JsonOption, RootOptions, print_frame


def main(
    *,
    from_: Annotated[
        str | None, Parameter("--from", help="curated_triplets@version; the newest whole one if not given")
    ] = None,
    as_weights: Annotated[
        bool, Parameter("--weights", help="print [distill.source_weights] for a recipe: by the share that stayed")
    ] = False,
    leave_out: Annotated[
        int | None, Parameter("--leave-out", help="print a study of so many steps: each source left out in turn")
    ] = None,
    recipe: Annotated[
        str, Parameter("--recipe", help="of the study: its name in jobs/recipes, or path of a TOML file")
    ] = DEFAULT_RECIPE,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    from jobs.recipe import load_recipe
    from jobs.versions import version_to_read
    from pipelines.inspection import sources as about
    from pipelines.stage import hints
    from pipelines.stage.errors import UserError
    from pipelines.stage.progress import tell
    from pipelines.stage.terminal import width_of

    if sum([as_weights, leave_out is not None, as_json]) > 1:
        raise UserError("--weights, --leave-out and --json each print something else; expected one of them")
    if leave_out is not None and leave_out < 1:
        raise UserError(f"--leave-out is {leave_out} steps, expected 1 or more")
    if leave_out is not None:
        load_recipe(recipe, None)
    curated = version_to_read(root.open(), "curated_triplets", from_)
    sources = about.about_sources(curated)
    if as_weights:
        print(about.toml_weights(about.weights(sources)), end="")
    elif leave_out is not None:
        print(about.leave_one_out(sources, recipe, leave_out), end="")
        tell(hints.completed("write it to a file and run: `python -m jobs study FILE`"))
    else:
        if as_json:
            print_frame(sources, as_json)
        else:
            print("\n".join(about.source_lines(sources, width_of(sys.stdout))))
        if elsewhere := about.quarantined_elsewhere(curated.tables, sources):
            tell(f"sources: {elsewhere}")
