"""`bench distill`: our loop beside sentence-transformers' trainer at its best, in one run and in turns.

    pairs, model  --compare-->  per precision and number of negatives: medians of each, and what ours is times each

Turns go round: every contestant trains a few steps, then all again, so a machine that slows down slows all. Peak memory
is of a process each, which does nothing else. On a GPU the share of a measured matmul ceiling is added.
"""

import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from sentence_transformers import SentenceTransformer

from pipelines.benchmarks.contestants import (
    WARM_UP,
    Terms,
    Turn,
    bare_loop,
    field_trainer,
    our_loop,
)
from pipelines.benchmarks.memory import peak_memory_mb
from pipelines.benchmarks.workload import Pairs, Precision, Workload, load_model
from pipelines.stage.progress import tell

NEEDED_BY_THE_TRAINER = ("datasets", "accelerate")
CANDIDATES = (8, 64)  # of a query, between which memory must not grow with `recompute_embeddings`

Row = dict[str, Any]
Contestant = Callable[[SentenceTransformer, Workload, Terms], Turn]


class Plan(NamedTuple):
    """What `compare` runs."""

    precisions: Sequence[Precision]
    negatives: Sequence[int]
    turns: int
    steps: int  # of each turn, beside the first, which warms up
    triplets_per_step: int
    max_tokens: int
    threads: int
    with_memory: bool


def compare(pairs: Pairs, folder: Any, plan: Plan) -> Iterator[Row]:
    """A row for each precision, number of negatives and contestant; those of memory at the end."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(folder, pairs, plan.max_tokens)
    width = model.get_embedding_dimension() or 0
    dimensions = tuple(sorted({width, *(size for size in (256, 128, 64) if size < width)}, reverse=True))
    for precision in plan.precisions:
        terms = Terms(plan.triplets_per_step, plan.steps, precision, plan.threads, dimensions, device)
        for negatives in plan.negatives:
            workload = _workload(pairs, model, plan, negatives)
            turns = _in_turns(contestants(negatives), model, workload, terms, plan.turns)
            yield from _rows(turns, {"precision": precision, "negatives": negatives})
        if plan.with_memory and device.type == "cpu":
            yield from _peaks(pairs, folder, plan, terms)
    if device.type == "cuda":
        from pipelines.benchmarks.ceiling import share_of_ceiling

        yield share_of_ceiling(device)


def contestants(negatives: int) -> dict[str, Contestant]:
    """All that train, by name; tuples of one negative are triplets."""
    found: dict[str, Contestant] = {
        "ours": our_loop,
        "ours, padded": partial(our_loop, unpadded=False),
        "bare loop": bare_loop,
    }
    missing = [name for name in NEEDED_BY_THE_TRAINER if find_spec(name) is None]
    if missing:
        tell(f"bench distill: sentence-transformers' trainer needs {' and '.join(missing)}: only ours is measured")
        return found
    for rows in ("triplets", "tuples") if negatives > 1 else ("triplets",):
        for grouped in (True, False):
            name = f"trainer, {rows}{', by length' if grouped else ''}"
            found[name] = partial(field_trainer, flat=rows == "triplets", grouped=grouped)
    return found


def _workload(pairs: Pairs, model: SentenceTransformer, plan: Plan, negatives: int) -> Workload:
    """As many queries as the steps of one turn see, some to spare for sampling by length."""
    queries = -(-plan.triplets_per_step * (WARM_UP + plan.steps + 1) // negatives)
    return Workload(pairs, model, num_queries=min(2 * queries, len(pairs.queries)), negatives=negatives)


def _in_turns(
    found: dict[str, Contestant], model: SentenceTransformer, workload: Workload, terms: Terms, turns: int
) -> dict[str, list[Turn]]:
    results: dict[str, list[Turn]] = {name: [] for name in found}
    for turn in range(turns):
        for name, train in found.items():
            results[name].append(train(model, workload, terms))
            per_s = results[name][-1].triplets / results[name][-1].seconds
            tell(
                f"bench distill: {terms.precision}, {workload.negatives} negatives, turn {turn + 1} of {turns}: "
                f"{name}: {per_s:.1f} triplets/s"
            )
    return results


def _rows(turns: dict[str, list[Turn]], common: Row) -> Iterator[Row]:
    """Medians over turns; `ours_times`: the median over turns of our triplets/s over theirs in the same turn."""
    for name, theirs in turns.items():
        yield {
            **common,
            "contestant": name,
            "triplets_per_s": round(statistics.median(map(_speed, theirs)), 2),
            "queries_per_s": round(statistics.median(turn.queries / turn.seconds for turn in theirs), 2),
            "tokens_per_s": round(statistics.median(turn.tokens / turn.seconds for turn in theirs), 1),
            "padding_share": round(1 - sum(t.tokens for t in theirs) / sum(t.padded_tokens for t in theirs), 3),
            "ours_times": round(
                statistics.median(
                    _speed(our) / _speed(their) for our, their in zip(turns["ours"], theirs, strict=True)
                ),
                2,
            ),
        }


def _speed(turn: Turn) -> float:
    return turn.triplets / turn.seconds


def _peaks(pairs: Pairs, folder: Any, plan: Plan, terms: Terms) -> Iterator[Row]:
    """Peak memory at the largest number of negatives, and ours with 8 and with 64 candidates, embeddings recomputed."""
    negatives = max(plan.negatives)
    for name in contestants(negatives):
        megabytes = _peak(pairs, folder, plan, terms, negatives, name, {})
        yield {"precision": terms.precision, "negatives": negatives, "contestant": name, "peak_mb": megabytes}
    for candidates in CANDIDATES:
        steps = terms._replace(triplets_per_step=8 * (candidates - 1))
        engine = {"recompute_embeddings": True}
        megabytes = _peak(pairs, folder, plan, steps, candidates - 1, "ours", engine)
        name = f"ours, recompute_embeddings, {candidates} candidates"
        yield {"precision": terms.precision, "negatives": candidates - 1, "contestant": name, "peak_mb": megabytes}


def _peak(*arguments: Any) -> float:
    """Megabytes that a new process takes at most for one turn, above what it has before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(_peak_here, arguments))


def _peak_here(
    pairs: Pairs, folder: Any, plan: Plan, terms: Terms, negatives: int, name: str, engine: dict[str, Any]
) -> float:
    model = load_model(folder, pairs, plan.max_tokens)
    workload = _workload(pairs, model, plan._replace(triplets_per_step=terms.triplets_per_step), negatives)
    before = peak_memory_mb()
    train = contestants(negatives)[name]
    (partial(train, **engine) if engine else train)(model, workload, terms)
    return round(peak_memory_mb() - before, 1)
