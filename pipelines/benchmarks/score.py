"""`bench score`: our teacher beside sentence-transformers' `CrossEncoder.predict`, in one run and in turns.

    pairs, a cross-encoder  --compare-->  per shape, precision and number of negatives: rows/s and pairs/s of each

A row is a triplet, two pairs. Users of `predict` call it on every row's; ours reads each different pair once. Turns go
round, so a machine that slows down slows all. It needs torch, transformers and sentence-transformers alone.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from pipelines.benchmarks.ceiling import busy_share, large_product_flops, own_product_flops, scoring_flops
from pipelines.benchmarks.workload import PRECISIONS, SHAPES, Pairs, Precision, draw, random_cross_encoder
from pipelines.stage.progress import tell
from pipelines.teachers.config import DTYPES, TeacherConfig
from pipelines.teachers.cross_encoder import CrossEncoderTeacher
from pipelines.teachers.teacher import quiet

THEIR_BATCHES = {"cpu": (32,), "cuda": (32, 128, 512)}
"""Pairs of a batch: the library's own, and on a GPU larger ones, of which the fastest counts."""

Row = dict[str, Any]


class Plan(NamedTuple):
    """What `compare` runs."""

    shapes: Sequence[str]
    precisions: Sequence[Precision]
    negatives: Sequence[int]
    rows: int
    turns: int
    max_tokens: int
    threads: int


class Rows(NamedTuple):
    """Triplets as pairs of texts."""

    every: list[tuple[str, str]]  # each row's two
    unique: list[tuple[str, str]]

    @classmethod
    def of(cls, pairs: Pairs, num_rows: int, negatives: int) -> "Rows":
        queries, passages_of = draw(pairs, -(-num_rows // negatives), negatives)
        every = [
            (pairs.queries[query], pairs.passages[passage])
            for query, (positive, *others) in zip(queries, passages_of, strict=True)
            for negative in others
            for passage in (positive, negative)
        ][: 2 * num_rows]
        return cls(every, list(dict.fromkeys(every)))


def default_rows() -> int:
    """Triplets of a turn: some seconds."""
    return 16_000 if torch.cuda.is_available() else 256


def default_precisions() -> list[Precision]:
    """On a GPU nobody scores in float32, which would take most of the time."""
    return ["bf16"] if torch.cuda.is_available() else PRECISIONS


def default_shapes() -> list[str]:
    """All on a GPU; a CPU takes minutes for the large ones."""
    return list(SHAPES) if torch.cuda.is_available() else ["minilm"]


def compare(pairs: Pairs, folder: Path | None, plan: Plan) -> Iterator[Row]:
    """A row for each shape (or the folder's model), precision, number of negatives and contestant."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        for shape in plan.shapes if folder is None else (str(folder),):
            with tempfile.TemporaryDirectory() as made:
                with quiet():
                    at = folder or random_cross_encoder(SHAPES[shape], pairs, Path(made) / "model")
                for precision in plan.precisions:
                    for negatives in plan.negatives:
                        rows = Rows.of(pairs, plan.rows, negatives)
                        yield from _compare(at, rows, plan, precision, device, {"model": shape, "negatives": negatives})
    finally:
        torch.set_num_threads(threads)


def _compare(folder: Path, rows: Rows, plan: Plan, precision: Precision, device: str, common: Row) -> Iterator[Row]:
    config = TeacherConfig(teacher=str(folder), max_tokens=plan.max_tokens, precision=precision)
    teacher = CrossEncoderTeacher(folder, config, device)
    queries, passages = (list(texts) for texts in zip(*rows.unique, strict=True))
    run: dict[str, Callable[[], Any]] = {"ours": lambda: teacher.score(queries, passages).score}
    if teacher.is_unpadded:
        run["ours, padded"] = _padded(folder, config, device, queries, passages)
    as_it_comes: Precision = "float32" if device == "cpu" else precision  # what it takes where nobody asks for another
    for theirs in dict.fromkeys((precision, as_it_comes)):
        predict = _predictor(folder, plan.max_tokens, theirs, device, rows.unique)
        run[f"predict in {theirs}, every row"] = lambda predict=predict: predict(rows.every)  # type: ignore[misc]
        run[f"predict in {theirs}, unique pairs"] = lambda predict=predict: predict(rows.unique)  # type: ignore[misc]
    seconds, scores = _in_turns(run, plan.turns, f"{common['model']}, {precision}, {common['negatives']} negatives")
    scored = {name: rows.every if name.endswith("every row") else rows.unique for name in run}
    for name, taken in seconds.items():
        apart = {} if name.endswith("every row") else {"apart": float(np.abs(scores[name] - scores["ours"]).max())}
        yield {
            **common,
            "precision": precision,
            "contestant": name,
            "rows_per_s": round(len(rows.every) / 2 / statistics.median(taken), 1),
            "pairs_per_s": round(len(scored[name]) / statistics.median(taken), 1),
            "ours_times": round(
                statistics.median(their / our for our, their in zip(seconds["ours"], taken, strict=True)), 2
            ),
            **apart,
        }
    yield {
        **common,
        "precision": precision,
        **_of_ceiling(teacher, queries, passages, min(seconds["ours"]), run["ours"]),
    }


def _padded(
    folder: Path, config: TeacherConfig, device: str, queries: list[str], passages: list[str]
) -> Callable[[], Any]:
    teacher = CrossEncoderTeacher(folder, config.model_copy(update={"compiled": False}), device)
    teacher.is_unpadded = False
    return lambda: teacher.score(queries, passages).score


def _predictor(
    folder: Path, max_tokens: int, precision: str, device: str, some: list[tuple[str, str]]
) -> Callable[[list[tuple[str, str]]], Any]:
    """`predict` with its fastest batch, giving raw logits."""
    with quiet():
        model = CrossEncoder(
            str(folder),
            device=device,
            local_files_only=True,
            max_length=max_tokens,
            activation_fn=torch.nn.Identity(),
            model_kwargs={"dtype": getattr(torch, DTYPES[precision])},
        )

    def predict(pairs: list[tuple[str, str]], batch_size: int) -> Any:
        return model.predict(pairs, batch_size=batch_size, show_progress_bar=False)

    batches = THEIR_BATCHES[device]
    best = batches[0]
    if len(batches) > 1:
        predict(some, best)  # the first call makes kernels
        best = min(batches, key=lambda size: _seconds(lambda: predict(some, size))[0])
    return lambda pairs: predict(pairs, best)


def _in_turns(
    run: dict[str, Callable[[], Any]], turns: int, what: str
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each turn, after one that nobody counts, and what came out of the last."""
    seconds: dict[str, list[float]] = {name: [] for name in run}
    scores: dict[str, Any] = {}
    for turn in range(turns + 1):
        for name, score in run.items():
            taken, scores[name] = _seconds(score)
            if turn:
                seconds[name].append(taken)
        tell(f"bench score: {what}: turn {turn} of {turns}" if turn else f"bench score: {what}: warm")
    return seconds, scores


def _seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = run()  # numbers on the CPU: nothing is left to be waited for
    return time.perf_counter() - started, result


def _of_ceiling(
    teacher: CrossEncoderTeacher, queries: list[str], passages: list[str], seconds: float, ours: Callable[[], Any]
) -> Row:
    """What the model had to compute a second, beside products of its own shapes, and on a GPU of large ones."""
    lengths, _ = teacher.count_tokens(queries, passages)
    reached = scoring_flops(teacher.model, lengths) / seconds
    own = own_product_flops(teacher.model, teacher.batch_tokens)
    row: Row = {
        "contestant": "ours, of what the machine can",
        "gflops": round(reached / 1e9, 1),
        "own_shapes_gflops": round(own / 1e9, 1),
        "share_of_own_shapes": round(reached / own, 3),
        "tokens_per_pair": round(float(lengths.mean()), 1),
    }
    if teacher.device.type == "cuda":
        ceiling = large_product_flops(teacher.device)
        row |= {
            "ceiling_gflops": round(ceiling / 1e9, 1),
            "share_of_ceiling": round(reached / ceiling, 3),
            "gpu_busy_share": round(busy_share(ours), 3),
        }
    return row
