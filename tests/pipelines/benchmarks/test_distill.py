"""All contestants train the same texts to the same loss, also where only torch and its libraries are installed."""

import inspect
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from jobs import bench
from jobs.options import RootOptions
from pipelines.benchmarks.contestants import Terms, bare_loop, field_trainer, our_loop
from pipelines.benchmarks.memory import peak_memory_mb
from pipelines.benchmarks.workload import Workload, load_model, made_up_pairs, read_pairs
from pipelines.stage.errors import UserError
from tests.tiny import tiny_bi_encoder

ROOT = Path(__file__).parents[3]
WITHOUT = ["ray", "polars", "deltalake", "pandera", "obstore", "schemas"]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A workload that is one step, whole: every contestant's batch is all of it."""
    pairs = made_up_pairs(40)
    model = load_model(Path(tiny_bi_encoder(tmp_path_factory.mktemp("model"))), pairs, max_tokens=40)
    workload = Workload(pairs, model, num_queries=4, negatives=3)
    return model, workload, Terms(12, 2, "float32", 1, (32, 8), torch.device("cpu"))


def test_our_loop_and_the_trainer_have_equal_losses(setting):
    model, workload, terms = setting
    ours = our_loop(model, workload, terms)
    padded = our_loop(model, workload, terms, unpadded=False)

    for flat in (True, False):
        theirs = field_trainer(model, workload, terms, flat=flat, grouped=True)
        assert theirs.loss == pytest.approx(ours.loss, rel=1e-3)
        assert theirs.triplets == ours.triplets == 24
        assert theirs.tokens > ours.tokens  # a text counts as often as it is embedded
    assert padded.loss == pytest.approx(ours.loss, rel=1e-4)
    assert padded.tokens == ours.tokens == ours.padded_tokens < padded.padded_tokens
    assert bare_loop(model, workload, terms).tokens == ours.tokens


def test_peak_memory_is_of_the_program_alone():
    """A process that this one starts begins anew, whatever this one held."""
    held = np.ones(40_000_000)
    del held
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        before = pool.apply(_hold, (1,))
        grown = pool.apply(_hold, (10_000_000,))

    assert peak_memory_mb() > before + 100
    assert 70 < grown - before < 120  # 80 MB of float64


def _hold(numbers):
    assert np.ones(numbers).sum() == numbers
    return peak_memory_mb()


def test_the_command_runs_without_ray_and_tables():
    command = ["bench", "distill", "--json", "--precision", "float32", "--negatives", "2", "--turns", "1"]
    command += ["--steps", "1", "--triplets-per-step", "4", "--max-tokens", "16", "--without-memory"]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({WITHOUT})); sys.argv = {['jobs', *command]}; "
    run = f"{blocked}from jobs.__main__ import main; sys.exit(main())"
    result = subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, timeout=240)

    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [row["contestant"] for row in rows][:3] == ["ours", "ours, padded", "bare loop"]
    assert {row["negatives"] for row in rows} == {2}
    assert all(row["triplets_per_s"] > 0 and 0 <= row["padding_share"] < 1 for row in rows)


def test_where_no_precision_is_asked_for_both_are_measured_but_float32_scoring_on_a_gpu(monkeypatch):
    def planned(rows):
        return inspect.getgeneratorlocals(rows)["plan"].precisions

    for on_gpu, of_score in ((False, ["float32", "bf16"]), (True, ["bf16"])):
        monkeypatch.setattr(torch.cuda, "is_available", lambda on_gpu=on_gpu: on_gpu)
        assert planned(bench.score(bench.SpeedOptions(), RootOptions())) == of_score
        assert planned(bench.distill(bench.SpeedOptions(), bench.StepOptions(), RootOptions())) == ["float32", "bf16"]
    asked = bench.SpeedOptions(precisions=["float32"])
    assert planned(bench.score(asked, RootOptions())) == ["float32"]
    assert planned(bench.distill(asked, bench.StepOptions(), RootOptions())) == ["float32"]


def test_pairs_are_read_from_json_lines_and_from_parquet(tmp_path):
    rows = pl.DataFrame({"query": [f"q{row}" for row in range(100)], "positive": ["p"] * 100, "more": [1] * 100})
    rows.write_ndjson(tmp_path / "pairs.jsonl")
    rows.write_parquet(tmp_path / "pairs.parquet")
    expected = (rows["query"].to_list(), rows["positive"].to_list())
    assert read_pairs(tmp_path / "pairs.jsonl") == read_pairs(tmp_path / "pairs.parquet") == expected


@pytest.mark.parametrize(
    "content",
    [b'{"query": "a"}\n', b'{"query": "a", "positive": null}\n' * 100, b"PAR1\xff" * 10_000],
    ids=["no positive", "null", "other bytes"],
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_file_that_holds_no_pairs_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"pairs.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="expected texts, query and positive, in JSON Lines or Parquet") as refused:
        read_pairs(path)
    assert len(str(refused.value)) < 1_000


def test_too_few_pairs_are_refused(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"query": "a", "positive": "b"}\n' * 7)
    with pytest.raises(UserError, match="has 7 pairs, expected at least 100"):
        read_pairs(path)
