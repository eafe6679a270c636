"""What `auto` is on a CPU: bf16 where it has the instructions and they were measured to pay."""

import pytest
import torch

from pipelines.stage import precision
from pipelines.stage.precision import fastest_on_cpu


def test_without_native_instructions_it_is_float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": False})

    assert fastest_on_cpu(128, 256, threads=1) == "float32"


def test_a_tiny_student_is_not_measured(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(precision, "_measure", lambda run, bf16: 0.1 if bf16 else 1.0)

    assert fastest_on_cpu(32, 64, threads=1) == "float32"


@pytest.mark.parametrize(("seconds_in_bf16", "expected"), [(0.5, "bf16"), (0.9, "float32"), (2.0, "float32")])
def test_with_them_the_clock_decides(monkeypatch, seconds_in_bf16, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(precision, "_measure", lambda run, bf16: seconds_in_bf16 if bf16 else 1.0)

    assert fastest_on_cpu(128, 256, threads=1) == expected


def test_the_measurement_runs_and_leaves_the_threads_as_they_were():
    threads = torch.get_num_threads()

    assert fastest_on_cpu(128, 256, threads=1) in ("float32", "bf16")
    assert torch.get_num_threads() == threads
