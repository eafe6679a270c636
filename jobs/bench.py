"""Compare with what else there is, measured here and now: `bench distill`, `bench initialise`, `bench reduce`.

`distill`: the training loop beside sentence-transformers' trainer, without Ray and without tables.
`initialise`: layer selections and a narrower student, before training and after equal steps.
`reduce`: the recipe beside sentence-transformers' own layer reduction, in equal minutes.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from jobs.options import BeirOption, JsonOption, RootOptions, StageOptions, print_frame
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of

if TYPE_CHECKING:
    from pipelines.benchmarks.workload import Pairs

MOST_PAIRS = 20_000
BENCHES = ("distill", "initialise", "reduce")
STEPS = {"distill": 2, "initialise": 100}  # where none are given; reduce counts minutes


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """What `initialise` and `reduce` compare, and on what."""

    from_: Annotated[
        str | None, Parameter("--from", help="initialise, reduce: curated_triplets@version; the newest if not given")
    ] = None
    beir: BeirOption = None
    layers: Annotated[
        list[str] | None,
        Parameter("--layers", help="initialise: a selection by its name, or layers as 0,3,5; repeatable"),
    ] = None
    width: Annotated[
        int | None, Parameter("--width", help="initialise: of the narrower student; half the source's if left out")
    ] = None
    minutes: Annotated[float, Parameter("--minutes", help="reduce: of training, for each of the two")] = 30
    search_minutes: Annotated[
        float, Parameter("--search-minutes", help="reduce: of each of the field's nine attempts")
    ] = 5


def main(
    bench: Annotated[str, Parameter(help="distill (speed), initialise (selections) or reduce (quality)")],
    /,
    *,
    model: Annotated[
        str | None, Parameter("--model", help="folder; random weights of three layers of MiniLM's shape if left out")
    ] = None,
    pairs: Annotated[
        str | None,
        Parameter("--pairs", help="JSON Lines with query and positive; else the newest curated version, or made up"),
    ] = None,
    precisions: Annotated[
        list[Literal["float32", "bf16"]] | None, Parameter("--precision", help="repeatable; both if left out")
    ] = None,
    negatives: Annotated[
        list[int] | None, Parameter("--negatives", help="of a query; repeatable; 1, 4 and 8 if left out")
    ] = None,
    turns: Annotated[int, Parameter("--turns", help="rounds, of which medians are taken")] = 3,
    steps: Annotated[
        int | None, Parameter("--steps", help="of each turn, 2 if left out; initialise: of each, 100")
    ] = None,
    triplets_per_step: Annotated[int, Parameter("--triplets-per-step", help="as many for all")] = 64,
    max_tokens: Annotated[int, Parameter("--max-tokens", help="longer texts are cut")] = 128,
    threads: Annotated[int, Parameter("--threads", help="CPU threads")] = 1,
    without_memory: Annotated[bool, Parameter("--without-memory", help="leave peak memory out")] = False,
    selection: SelectionOptions = SelectionOptions(),
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    if bench not in BENCHES:
        raise UserError(f"there is no bench {bench!r}; expected one of {', '.join(BENCHES)}")
    if bench == "reduce":
        return reduce(selection, stage, as_json)
    steps = STEPS[bench] if steps is None else steps
    if bench == "initialise":
        return initialise(selection, stage, steps, as_json)
    given = {"turns": turns, "steps": steps, "triplets_per_step": triplets_per_step, "threads": threads}
    given["max_tokens"] = max_tokens
    precisions, negatives = precisions or ["float32", "bf16"], negatives or [1, 4, 8]
    distill(model, _pairs(pairs, stage), precisions, negatives, given, not without_memory, as_json)


def initialise(selection: SelectionOptions, stage: StageOptions, steps: int, as_json: bool) -> None:
    from jobs.versions import version_to_read
    from pipelines.benchmarks.initialise import compare, selections

    recipe, tables = stage.load(writes=False)
    if steps < 1:
        raise UserError(f"--steps is {steps}, expected 1 or more")
    curated = version_to_read(tables, "curated_triplets", selection.from_)
    vectors = tables.newest("teacher_vectors")
    chosen = selections(recipe.distill, [_pick(one) for one in selection.layers or ()], selection.width)
    print(f"each trained for {steps} steps on the same batches; seed {recipe.distill.seed}", file=sys.stderr)
    compared = compare(curated, chosen, steps=steps, vectors=vectors, beir=selection.beir or ())
    print_frame(compared, as_json)


def reduce(selection: SelectionOptions, stage: StageOptions, as_json: bool) -> None:
    from jobs.versions import version_to_read
    from pipelines.benchmarks.reduction import compare

    recipe, tables = stage.load(writes=False)
    if min(selection.minutes, selection.search_minutes) <= 0:
        raise UserError(f"--minutes is {selection.minutes}, --search-minutes {selection.search_minutes}: expected more")
    curated, vectors = version_to_read(tables, "curated_triplets", selection.from_), tables.newest("teacher_vectors")
    if vectors is None:
        raise UserError(f"{tables.uri} has no teacher_vectors; run: python -m jobs score --vectors")
    rows = compare(
        curated,
        vectors,
        recipe.distill,
        minutes=selection.minutes,
        search_minutes=selection.search_minutes,
        beir=selection.beir or (),
    )
    _print_rows(rows, as_json)


def _pick(text: str) -> Any:
    """A rule's name, or a list of layers."""
    numbers = [part.strip() for part in text.split(",")]
    return tuple(map(int, numbers)) if all(re.fullmatch("[0-9]{1,9}", part) for part in numbers) else text


def distill(
    model: str | None,
    texts: "Pairs",
    precisions: list[Literal["float32", "bf16"]],
    negatives: list[int],
    given: dict[str, int],
    with_memory: bool,
    as_json: bool,
) -> None:
    for option, number in [*given.items(), *(("negatives", number) for number in negatives)]:
        if number < 1:
            raise UserError(f"--{option.replace('_', '-')} is {number}, expected 1 or more")
    from pipelines.benchmarks.distill import Plan, compare

    folder: Path | None = path_of(model, "--model") if model else None
    plan = Plan(precisions, negatives, with_memory=with_memory, **given)
    _print_rows(compare(texts, folder, plan), as_json)


def _print_rows(found: Iterator[dict[str, Any]], as_json: bool) -> None:
    """Each as it comes; as JSON all at the end."""
    rows = []
    for row in found:
        rows.append(row)
        if not as_json:
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if as_json:
        print(json.dumps(rows))


def _pairs(pairs: str | None, root: RootOptions) -> "Pairs":
    """Those of a file, of the root's newest curated version where a root is given, or made-up ones."""
    from pipelines.benchmarks.workload import Pairs, made_up_pairs, read_pairs

    if pairs:
        return read_pairs(path_of(pairs, "--pairs"))
    if not root.tables:
        return made_up_pairs(4_000)
    curated = root.open().latest("curated_triplets")
    if curated is None:
        raise UserError(f"{root.tables} has no curated_triplets; run `python -m jobs curate`, or give --pairs")
    rows = curated.scan().select("query", "positive").unique("query", keep="first", maintain_order=True)
    frame = rows.head(MOST_PAIRS).collect(engine="streaming")
    return Pairs(frame["query"].to_list(), frame["positive"].to_list())
