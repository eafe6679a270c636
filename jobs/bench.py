"""Compare with what else there is, or with fewer rows, measured here and now.

`score`: the teacher's pairs/s beside sentence-transformers' `CrossEncoder.predict`, without Ray and without tables.
`distill`: the training loop beside sentence-transformers' trainer, without Ray and without tables.
`initialise`: layer selections and a narrower student, before training and after equal steps.
`reduce`: the recipe beside sentence-transformers' own layer reduction, in equal minutes.
`scale`: ingest, score, curate and diff on made-up triplets, from small to large: time, the driver's memory, bytes.
`mine`: dense mining of made-up queries over passages, from small to large: the same.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
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
BENCHES = ("score", "distill", "initialise", "reduce", "scale", "mine")
SCALE_ROWS = {"scale": [1_000_000, 10_000_000], "mine": [100_000, 1_000_000]}
NEGATIVES = {"distill": [1, 4, 8], "score": [1, 8]}
MAX_TOKENS = {"distill": 128, "score": 512}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SpeedOptions:
    """What `score` and `distill` read, and how often."""

    model: Annotated[
        str | None, Parameter("--model", help="folder; random weights of MiniLM's shape, to train three layers of it")
    ] = None
    pairs: Annotated[
        str | None,
        Parameter("--pairs", help="query and positive, JSON Lines or Parquet; else the newest curated, or made up"),
    ] = None
    precisions: Annotated[
        list[Literal["float32", "bf16"]] | None,
        Parameter("--precision", help="repeatable; both if left out, score on a GPU: bf16"),
    ] = None
    negatives: Annotated[
        list[int] | None, Parameter("--negatives", help="of a query; repeatable; 1, 4 and 8 if left out, score: 1, 8")
    ] = None
    turns: Annotated[int, Parameter("--turns", help="rounds, of which medians are taken")] = 3
    max_tokens: Annotated[
        int | None, Parameter("--max-tokens", help="longer texts are cut; 128 if left out, pairs of score at 512")
    ] = None
    threads: Annotated[int, Parameter("--threads", help="CPU threads")] = 1
    shapes: Annotated[
        list[str] | None,
        Parameter("--shape", help="score: of random weights, minilm, xlm-r-large or modernbert-base; repeatable"),
    ] = None
    rows: Annotated[
        list[int] | None,
        Parameter("--rows", help="score: triplets of a turn, 256 or on a GPU 16,000; scale, mine: repeatable"),
    ] = None

    def numbers(self, bench: Literal["score", "distill"]) -> dict[str, Any]:
        """Of the two benches' plans what they share. Raises UserError for one that is not above 0."""
        max_tokens = MAX_TOKENS[bench] if self.max_tokens is None else self.max_tokens
        given = {"turns": self.turns, "threads": self.threads, "max_tokens": max_tokens}
        check_above_zero({**given, "negatives": self.negatives, "rows": self.rows})
        return given | {"negatives": self.negatives or NEGATIVES[bench]}

    def folder(self) -> Path | None:
        return path_of(self.model, "--model") if self.model else None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How `distill` and `initialise` train."""

    steps: Annotated[int | None, Parameter("--steps", help="of each turn, 2 if left out; initialise: of each, 100")] = (
        None
    )
    triplets_per_step: Annotated[int, Parameter("--triplets-per-step", help="as many for all")] = 64
    without_memory: Annotated[bool, Parameter("--without-memory", help="leave peak memory out")] = False


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
    bench: Annotated[str, Parameter(help="score, distill (speed), initialise, reduce (quality), scale or mine")],
    /,
    *,
    speed: SpeedOptions = SpeedOptions(),
    step: StepOptions = StepOptions(),
    selection: SelectionOptions = SelectionOptions(),
    stage: StageOptions = StageOptions(),
    as_json: JsonOption = False,
) -> None:
    if bench == "score":
        rows = score(speed, stage)
    elif bench == "distill":
        rows = distill(speed, step, stage)
    elif bench == "reduce":
        rows = reduce(selection, stage)
    elif bench in SCALE_ROWS:
        rows = scale(bench, speed.rows or SCALE_ROWS[bench], stage.set_ or ())
    elif bench == "initialise":
        return initialise(selection, stage, 100 if step.steps is None else step.steps, as_json)
    else:
        raise UserError(f"there is no bench {bench!r}; expected one of {', '.join(BENCHES)}")
    _print_rows(rows, as_json)


def score(speed: SpeedOptions, root: RootOptions) -> Iterator[dict[str, Any]]:
    given = speed.numbers("score")
    from pipelines.benchmarks.score import Plan, compare, default_precisions, default_rows, default_shapes
    from pipelines.benchmarks.workload import SHAPES

    if speed.model and speed.shapes:
        raise UserError("--shape is of random weights, --model a folder with its own; expected one of them")
    shapes = speed.shapes or default_shapes()
    if unknown := sorted(set(shapes) - set(SHAPES)):
        raise UserError(f"--shape is {', '.join(unknown)}, expected {', '.join(SHAPES)}")
    rows = speed.rows or [default_rows()]
    if len(rows) > 1:
        raise UserError(f"--rows is given {len(rows)} times, expected once")
    plan = Plan(shapes=shapes, precisions=speed.precisions or default_precisions(), rows=rows[0], **given)
    return compare(_pairs(speed.pairs, root), speed.folder(), plan)


def distill(speed: SpeedOptions, step: StepOptions, root: RootOptions) -> Iterator[dict[str, Any]]:
    given = speed.numbers("distill")
    given |= {"steps": 2 if step.steps is None else step.steps, "triplets_per_step": step.triplets_per_step}
    check_above_zero({name: given[name] for name in ("steps", "triplets_per_step")})
    from pipelines.benchmarks.distill import Plan, compare
    from pipelines.benchmarks.workload import PRECISIONS

    plan = Plan(precisions=speed.precisions or PRECISIONS, with_memory=not step.without_memory, **given)
    return compare(_pairs(speed.pairs, root), speed.folder(), plan)


def scale(bench: str, rows: list[int], settings: Sequence[str]) -> Iterator[dict[str, Any]]:
    check_above_zero({"rows": rows})
    from pipelines.benchmarks.scale import Plan, grow, of_passages, of_triplets

    return grow(Plan(rows, settings=settings), of_triplets if bench == "scale" else of_passages)


def check_above_zero(given: dict[str, int | list[int] | None]) -> None:
    each = [(option, number) for option, found in given.items() for number in _numbers(found)]
    for option, number in each:
        if number < 1:
            raise UserError(f"--{option.replace('_', '-')} is {number}, expected 1 or more")


def _numbers(given: int | list[int] | None) -> list[int]:
    return [given] if isinstance(given, int) else given or []


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


def reduce(selection: SelectionOptions, stage: StageOptions) -> Iterator[dict[str, Any]]:
    from jobs.versions import version_to_read
    from pipelines.benchmarks.reduction import compare

    recipe, tables = stage.load(writes=False)
    if min(selection.minutes, selection.search_minutes) <= 0:
        raise UserError(f"--minutes is {selection.minutes}, --search-minutes {selection.search_minutes}: expected more")
    curated, vectors = version_to_read(tables, "curated_triplets", selection.from_), tables.newest("teacher_vectors")
    if vectors is None:
        raise UserError(f"{tables.uri} has no teacher_vectors; run: python -m jobs score --vectors")
    return compare(
        curated,
        vectors,
        recipe.distill,
        minutes=selection.minutes,
        search_minutes=selection.search_minutes,
        beir=selection.beir or (),
    )


def _pick(text: str) -> Any:
    """A rule's name, or a list of layers."""
    numbers = [part.strip() for part in text.split(",")]
    return tuple(map(int, numbers)) if all(re.fullmatch("[0-9]{1,9}", part) for part in numbers) else text


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
        return made_up_pairs(MOST_PAIRS)
    curated = root.open().latest("curated_triplets")
    if curated is None:
        raise UserError(f"{root.tables} has no curated_triplets; run `python -m jobs curate`, or give --pairs")
    rows = curated.scan().select("query", "positive").unique("query", keep="first", maintain_order=True)
    frame = rows.head(MOST_PAIRS).collect(engine="streaming")
    return Pairs(frame["query"].to_list(), frame["positive"].to_list())
