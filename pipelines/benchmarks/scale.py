"""What grows with the rows: the commands that go through a corpus, on made-up triplets, from small to large.

    rows, for each of --rows  --ingest, score, curate, diff-->  seconds, peak memory of the driver, bytes, versions

Each command is a process of its own, as a user starts it; the teacher is real and as small as one can be, so that what
is measured is the way of the rows and not the products of a model.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.benchmarks.memory import peak_memory_mb
from pipelines.benchmarks.workload import Pairs, random_cross_encoder
from pipelines.stage.errors import UserError

NEGATIVES = 8
WORDS = 20_000
QUERY_WORDS, PASSAGE_WORDS = 8, 12  # about 220 characters a triplet
SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
ROWS_AT_ONCE = 200_000
REPOSITORY = Path(__file__).parents[2]
SAMPLED_EVERY_S = 0.05


@dataclass(frozen=True)
class Plan:
    """How many triplets, in turn, and under which folder they are made."""

    rows: Sequence[int]
    folder: Path | None = None
    settings: Sequence[str] = ()  # words of the recipe's --set


def grow(plan: Plan) -> Iterator[dict[str, Any]]:
    """A row of figures for each command and number of triplets.

    Yields:
        rows; command; seconds and peak_mb of its process (MiB; the cluster's own processes are not counted); versions
        and bytes_per_row of all tables by then; seconds_over_first and peak_mb_over_first: those of the same command
        with the fewest rows.
    Raises:
        UserError: a command failed; with what it said.
    """
    first: dict[str, dict[str, Any]] = {}
    for rows in sorted(plan.rows):
        with tempfile.TemporaryDirectory(dir=plan.folder, prefix=f"scale_{rows}_") as folder:
            for figures in _figures(Path(folder), rows, plan.settings):
                before = first.setdefault(figures["command"], figures)
                ratios = {
                    f"{name}_over_first": round(figures[name] / before[name], 2) for name in ("seconds", "peak_mb")
                }
                yield {"rows": rows, **figures, **(ratios if before is not figures else {})}


def _figures(folder: Path, rows: int, settings: Sequence[str]) -> Iterator[dict[str, Any]]:
    corpus, root = folder / "triplets.parquet", folder / "tables"
    write_corpus(corpus, rows)
    teacher = random_cross_encoder(("bert", SHAPE), Pairs([" ".join(_words())], [""]), folder / "teacher")
    given = [f"score.teacher={teacher}", "score.max_tokens=64", "score.precision=float32", "curate.max_drop_share=1"]
    named = [word for setting in (*given, *settings) for word in ("--set", setting)]
    commands = {
        "ingest": ["--input", str(corpus), *named],
        "score": named,
        "curate": named,
        "diff": ["curated_triplets@0", "curated_triplets@0"],
    }
    for command, words in commands.items():
        ran = run([sys.executable, "-m", "jobs", command, "--tables", str(root), *words])
        tables = [path for path in root.iterdir() if (path / "_delta_log").is_dir()]
        stored = sum(file.stat().st_size for table in tables for file in table.glob("*.parquet"))
        versions = sum(1 for table in tables for _ in table.glob("_delta_log/*.json"))
        yield {"command": command, **ran, "versions": versions, "bytes_per_row": round(stored / rows)}


def run(command: list[str]) -> dict[str, Any]:
    """Seconds and peak memory (MiB) of a process. Raises UserError when it fails."""
    began, peak = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=told, stderr=told
        )
        try:
            while process.poll() is None:
                with suppress(OSError, KeyError):  # it has just ended
                    peak = peak_memory_mb(process.pid)
                time.sleep(SAMPLED_EVERY_S)
        finally:
            process.terminate()
            process.wait()
        if process.returncode:
            told.seek(0)
            raise UserError(f"{' '.join(command[2:4])} ended with {process.returncode}: {told.read()[-2000:]}")
    return {"seconds": round(time.monotonic() - began, 1), "peak_mb": round(peak)}


def write_corpus(path: Path, rows: int, seed: int = 0) -> None:
    """Made-up triplets, NEGATIVES of a query, which are other queries' positives."""
    random, words = np.random.default_rng(seed), np.array(_words())
    schema = pa.schema([(name, pa.string()) for name in ("query", "positive", "negative")])
    num_queries = -(-rows // NEGATIVES)

    def passage(number: int) -> str:
        return " ".join(words[np.random.default_rng(number).integers(0, WORDS, PASSAGE_WORDS)])

    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, ROWS_AT_ONCE):
            numbers = np.arange(first, min(first + ROWS_AT_ONCE, rows)) // NEGATIVES
            different = np.unique(numbers)
            drawn = words[random.integers(0, WORDS, (len(different), QUERY_WORDS))]
            texts = {
                int(number): (f"{number} {' '.join(row)}", passage(int(number)))
                for number, row in zip(different, drawn, strict=True)
            }
            offsets = random.integers(1, max(2, num_queries - NEGATIVES), len(different))[numbers - numbers[0]]
            others = (numbers + offsets + np.arange(len(numbers)) % NEGATIVES) % num_queries
            negatives = [passage(int(number)) for number in others]
            columns = [[texts[int(number)][side] for number in numbers] for side in (0, 1)]
            writer.write_table(pa.table([*map(pa.array, columns), pa.array(negatives)], schema=schema))


def _words() -> list[str]:
    return [f"w{number}" for number in range(WORDS)]
