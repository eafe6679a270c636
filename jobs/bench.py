"""Compare with what else there is, measured here and now: `bench distill`.

`distill`: the training loop beside sentence-transformers' trainer, without Ray and without tables.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from jobs.options import JsonOption, RootOptions
from pipelines.stage.errors import UserError
from pipelines.stage.paths import path_of

if TYPE_CHECKING:
    from pipelines.benchmarks.workload import Pairs

MOST_PAIRS = 20_000


def main(
    bench: Annotated[str, Parameter(help="distill: triplets/s and memory beside sentence-transformers' trainer")],
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
    steps: Annotated[int, Parameter("--steps", help="counted steps of each turn")] = 2,
    triplets_per_step: Annotated[int, Parameter("--triplets-per-step", help="as many for all")] = 64,
    max_tokens: Annotated[int, Parameter("--max-tokens", help="longer texts are cut")] = 128,
    threads: Annotated[int, Parameter("--threads", help="CPU threads")] = 1,
    without_memory: Annotated[bool, Parameter("--without-memory", help="leave peak memory out")] = False,
    root: RootOptions = RootOptions(),
    as_json: JsonOption = False,
) -> None:
    benches = {"distill": distill}
    if bench not in benches:
        raise UserError(f"there is no bench {bench!r}; expected one of {', '.join(benches)}")
    given = {"turns": turns, "steps": steps, "triplets_per_step": triplets_per_step, "threads": threads}
    given["max_tokens"] = max_tokens
    texts = _pairs(pairs, root)
    precisions, negatives = precisions or ["float32", "bf16"], negatives or [1, 4, 8]
    benches[bench](model, texts, precisions, negatives, given, not without_memory, as_json)


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
    rows = []
    for row in compare(texts, folder, plan):
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
