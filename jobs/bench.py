"""Compare what can be chosen, measured here and now: `bench initialise`."""

import re
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from jobs.options import BeirOption, JsonOption, StageOptions, print_frame
from pipelines.stage.errors import UserError


def main(
    bench: Annotated[
        str,
        Parameter(help="initialise: layer selections and a narrower student, before training and after equal steps"),
    ],
    *,
    from_: Annotated[str | None, Parameter("--from", help="curated_triplets@version; the newest if not given")] = None,
    beir: BeirOption = None,
    steps: Annotated[int, Parameter("--steps", help="steps that each student is trained")] = 100,
    layers: Annotated[
        list[str] | None, Parameter("--layers", help="a selection to compare: its name, or layers as 0,3,5; repeatable")
    ] = None,
    width: Annotated[
        int | None, Parameter("--width", help="of the narrower student; half the source's if left out")
    ] = None,
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    benches = {"initialise": initialise}
    if bench not in benches:
        raise UserError(f"there is no bench {bench!r}; expected one of {', '.join(benches)}")
    benches[bench](stage, as_json, from_=from_, beir=beir or [], steps=steps, layers=layers or [], width=width)


def initialise(
    stage: StageOptions,
    as_json: bool,
    *,
    from_: str | None,
    beir: list[str],
    steps: int,
    layers: list[str],
    width: int | None,
) -> None:
    from jobs.versions import version_to_read
    from pipelines.benchmarks.initialise import compare, selections

    recipe, tables = stage.load(writes=False)
    if steps < 1:
        raise UserError(f"--steps is {steps}, expected 1 or more")
    curated = version_to_read(tables, "curated_triplets", from_)
    vectors = tables.newest("teacher_vectors")
    chosen = selections(recipe.distill, [_pick(one) for one in layers], width)
    print(f"each trained for {steps} steps on the same batches; seed {recipe.distill.seed}", file=sys.stderr)
    print_frame(compare(curated, chosen, steps=steps, vectors=vectors, beir=beir), as_json)


def _pick(text: str) -> Any:
    """A rule's name, or a list of layers."""
    numbers = [part.strip() for part in text.split(",")]
    return tuple(map(int, numbers)) if all(re.fullmatch("[0-9]{1,9}", part) for part in numbers) else text
