"""Measures what the weights' bytes depend on: one tiny training in many settings, each in a process of its own.

    python -m tests.determinism [REGEX]      prints a table; REGEX picks settings by name

`again` is the same setting in another process, `resumed` one that was stopped at a checkpoint and went on in another
process. `apart` is the distance from float32, one rank, one thread, as a share of the way that its weights went;
biases of attention keys, whose gradient is rounding alone, are left out.
"""

import contextlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # after its environment
import torch.distributed as dist

from pipelines.storage import Tables
from pipelines.students.config import DistillConfig
from pipelines.students.data.tokenise import build_token_cache
from pipelines.students.initialise import initialise_student
from pipelines.students.training import loop
from pipelines.students.training.encoder import RankEncoder
from tests.tiny import tiny_encoder
from tests.tiny_training import Killed, Setting, weights_of
from tests.training_data import write_curated, write_vectors

WIDTH = 128
FIELDS = {"dimensions": (WIDTH, 32), "tokens_per_forward": 1_000, "triplets_per_step": 24, "epochs": 4}  # 20 steps

SETTINGS: dict[str, dict[str, Any]] = {
    "float32, 1 rank, 1 thread": {},
    **{f"float32, 1 rank, {threads} threads": {"threads_per_worker": threads} for threads in (2, 4)},
    **{f"float32, {ranks} ranks": {"ranks": ranks} for ranks in (2, 3, 4)},
    "bf16, 1 rank, 1 thread": {"precision": "bf16"},
    "bf16, 1 rank, 2 threads": {"precision": "bf16", "threads_per_worker": 2},
    **{f"bf16, {ranks} ranks": {"precision": "bf16", "ranks": ranks} for ranks in (2, 4)},
    "a checkpoint every 3 steps": {"checkpoint_every_steps": 3},
    "200 tokens a forward": {"tokens_per_forward": 200},
    "4,000 tokens a forward": {"tokens_per_forward": 4_000},
    "recomputed embeddings": {"recompute_embeddings": True},
    "dropout 0.1": {"dropout": 0.1},
    **{
        f"any algorithm, {threads} threads": {"without": "deterministic", "threads_per_worker": threads}
        for threads in (1, 2, 4)
    },
    "any algorithm, bf16, 2 threads": {"without": "deterministic", "precision": "bf16", "threads_per_worker": 2},
    "memory filled": {"without": "unfilled"},
    **{f"no warm-up of buckets, {ranks} ranks": {"without": "warm_up", "ranks": ranks} for ranks in (2, 3, 4)},
    **{
        f"{name}={value}": {"environment": {name: value}}
        for name, value in (
            ("ATEN_CPU_CAPABILITY", "avx2"),
            ("ATEN_CPU_CAPABILITY", "default"),
            ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"),
            ("MKL_CBWR", "COMPATIBLE"),
            ("MKL_CBWR", "AVX2"),
        )
    },
}


def prepare(folder: Path) -> None:
    """An untrained student and a token cache, with a width at which kernels use several threads."""
    curated = write_curated(Tables.at(str(folder / "tables")), num_queries=40)
    vectors = write_vectors(curated.tables, curated, WIDTH)
    source = tiny_encoder(folder / "source", "bert", num_layers=4, hidden_size=WIDTH)
    config = DistillConfig(source_model=source, num_layers=2, dimensions=(WIDTH,), max_tokens=64)
    student = initialise_student(config)
    student.save_pretrained(str(folder / "untrained"))
    build_token_cache(folder / "cache", curated, student.tokenizer, config, vectors)
    is_counted = {name: "key.bias" not in name for name, _ in student.named_parameters()}
    counted = [torch.full((weight.numel(),), is_counted[name]) for name, weight in student.named_parameters()]
    torch.save({"weights": weights_of(student), "is_counted": torch.cat(counted)}, folder / "untrained.pt")


def train(folder: Path, output: Path, settings: dict[str, Any], resume_from: Path | None, rank: int = 0) -> None:
    """One rank's whole run, or until it is stopped after a checkpoint; rank 0 leaves its weights."""
    ranks, without = settings.get("ranks", 1), settings.get("without")
    if without == "deterministic":
        torch.use_deterministic_algorithms = lambda *_, **__: None
    if without == "unfilled":
        loop.reproducible = filling
    if without == "warm_up":
        RankEncoder.warm_up = lambda _: None  # type: ignore[method-assign]
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{output}/rendezvous", rank=rank, world_size=ranks)
    changes = {name: value for name, value in settings.items() if name not in ("ranks", "without", "environment")}
    own = output / f"rank_{rank}"
    stop = {"kill_at_checkpoint": stopped_at(settings)} if output.name == "stopped" else {}
    with contextlib.suppress(Killed):
        setting = Setting(str(folder / "untrained"), str(folder / "cache"))
        _, student, _ = setting.train(own, resume_from=resume_from, **stop, **FIELDS | changes)
        if rank == 0:
            torch.save(weights_of(student), output / "weights.pt")
    if ranks > 1:
        dist.destroy_process_group()


@contextlib.contextmanager
def filling(threads: int, device: torch.device) -> Iterator[None]:
    """As loop.reproducible, but new memory is filled, which is torch's default."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    yield


def in_process(function: Callable[..., None], *arguments: Any, ranks: int | None = None) -> None:
    """In forked processes, which have imported torch and not used it; one for each rank."""
    context = multiprocessing.get_context("fork")
    of_ranks = [()] if ranks is None else [(rank,) for rank in range(ranks)]
    processes = [context.Process(target=function, args=(*arguments, *rank)) for rank in of_ranks]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, f"{arguments} failed"


def stopped_at(settings: dict[str, Any]) -> int:
    """The checkpoint nearest to step 14."""
    every: int = settings.get("checkpoint_every_steps", 7)
    return every * round(14 / every)


def measure(folder: Path, output: Path, settings: dict[str, Any]) -> None:
    """The three runs of one setting."""
    for run in ("once", "again", "stopped", "resumed"):
        (output / run).mkdir(parents=True)
        kept = output / f"stopped/rank_0/step_{stopped_at(settings)}" if run == "resumed" else None
        in_process(train, folder, output / run, settings, kept, ranks=settings.get("ranks", 1))


def main(pattern: str = "") -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        in_process(prepare, folder)
        print("| setting | again | resumed | as the first line | apart |\n| --- | --- | --- | --- | --- |", flush=True)
        first = next(iter(SETTINGS))
        for number, (name, settings) in enumerate(SETTINGS.items()):
            if name != first and not re.search(pattern, name):
                continue
            output = folder / str(number)
            command = [
                sys.executable,
                "-m",
                "tests.determinism",
                "--one",
                str(folder),
                str(output),
                json.dumps(settings),
            ]
            subprocess.run(command, check=True, env=os.environ | settings.get("environment", {}))
            line = told(folder, output)
            print(f"| {name} | {line} |", flush=True)


def told(folder: Path, output: Path) -> str:
    """Whether the runs gave the same bytes, and how far they are from the first setting's."""
    once, again, resumed = (torch.load(output / run / "weights.pt") for run in ("once", "again", "resumed"))
    first = torch.load(folder / "0" / "once" / "weights.pt")
    untrained = torch.load(folder / "untrained.pt")
    is_counted = untrained["is_counted"]
    way = (first - untrained["weights"])[is_counted].norm()
    same = [torch.equal(once, other) for other in (again, resumed, first)]
    apart = float((once - first)[is_counted].norm() / way)
    return " | ".join(["same bytes" if one else "**differs**" for one in same] + [f"{apart:.1e}" if apart else "0"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
    else:
        main(*sys.argv[1:])
