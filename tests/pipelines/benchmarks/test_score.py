"""`bench score`: all read the same pairs to the same logits; what a model computes is counted as it is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipelines.benchmarks.ceiling import own_product_flops, scoring_flops
from pipelines.benchmarks.score import Plan, Rows, compare
from pipelines.benchmarks.workload import SHAPES, Pairs, made_up_pairs, random_cross_encoder
from pipelines.teachers.config import TeacherConfig
from pipelines.teachers.cross_encoder import CrossEncoderTeacher
from tests.in_process import run_jobs
from tests.tiny import texts, tiny_cross_encoder

ROOT = Path(__file__).parents[3]
WITHOUT = ["ray", "polars", "deltalake", "pandera", "obstore", "schemas"]
TINY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}


def test_a_query_s_positive_is_one_pair_however_many_rows_have_it():
    rows = Rows.of(made_up_pairs(40), num_rows=12, negatives=4)

    assert len(rows.every) == 24
    assert len(rows.unique) == len(set(rows.every)) == 3 + 12


def test_ours_and_predict_give_the_same_logits(tmp_path):
    """Of texts that fit: of longer ones ours cuts the passage first, `predict` the longer text."""
    plan = Plan((), ["float32"], [2], rows=12, turns=1, max_tokens=100, threads=1)
    pairs = Pairs(texts(60, seed=1, max_words=8), texts(60, seed=2, max_words=20))

    found = list(compare(pairs, Path(tiny_cross_encoder(tmp_path)), plan))

    assert [row["contestant"] for row in found] == [
        "ours",
        "predict in float32, every row",
        "predict in float32, unique pairs",
        "ours, of what the machine can",
    ]
    assert found[2]["apart"] < 1e-5
    assert all(row["rows_per_s"] > 0 for row in found[:3])
    assert found[0]["ours_times"] == 1
    assert 0 < found[3]["share_of_own_shapes"] < 2


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_model_computes_is_what_torch_counts(shape, tmp_path):
    """Of pairs of equal length: nothing is padded there. Torch counts the head, too, two small products a pair, and on
    a CPU not the two products of attention."""
    family, sizes = SHAPES[shape]
    folder = random_cross_encoder((family, sizes | TINY), made_up_pairs(100), tmp_path / "model")
    teacher = CrossEncoderTeacher(folder, TeacherConfig(teacher=str(folder), max_tokens=16), "cpu")
    queries, passages = ["w1 w2 w3"] * 4, ["w4 w5 w6 w7"] * 4
    lengths, _ = teacher.count_tokens(queries, passages)

    with FlopCounterMode(display=False) as counter:
        teacher.score(queries, passages)

    assert set(lengths) == {10}
    head = 4 * 2 * (32 * 32 + 32)
    queries_asked = 3 * 10 if shape == "modernbert-base" else 2 * 10 + 1  # of each pair, in three layers
    attention = 4 * queries_asked * 10 * 32 * 4
    assert counter.get_total_flops() + attention == scoring_flops(teacher.model, lengths) + head
    assert own_product_flops(teacher.model, 64) > 0
    assert np.isfinite(teacher.score(queries, passages).score).all()
    assert not torch.is_inference_mode_enabled()


def test_the_command_runs_without_ray_and_tables():
    command = ["bench", "score", "--json", "--precision", "bf16", "--negatives", "2", "--turns", "1", "--rows", "4"]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({WITHOUT})); sys.argv = {['jobs', *command]}; "
    run = f"{blocked}from jobs.__main__ import main; sys.exit(main())"
    result = subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, timeout=240)

    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert {row["model"] for row in rows} == {"minilm"}
    assert [row["contestant"] for row in rows][:2] == ["ours", "predict in bf16, every row"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--shape", "t5"], "--shape is t5, expected minilm, xlm-r-large, modernbert-base"),
        (["--rows", "0"], "--rows is 0, expected 1 or more"),
        (["--model", "there", "--shape", "minilm"], "expected one of them"),
        (["--rows", "100000"], "there are 20000 pairs, expected at least 100000"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, told, capsys):
    assert run_jobs("bench", "score", *words) == 2
    assert told in capsys.readouterr().err
