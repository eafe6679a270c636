"""A process that sees a new shape at every step does not grow with every step."""

import multiprocessing

import pytest

from pipelines.benchmarks.memory import peak_memory_mb
from pipelines.stage.cpu_libraries import CPU_LIBRARIES
from pipelines.stage.precision import has_native_bf16

NUM_SHAPES = 300


def grown_mb(monkeypatch, environment: dict[str, str]) -> float:
    """Of a new process that multiplies in bf16, forward and back, in as many shapes."""
    for name in CPU_LIBRARIES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_multiply)


def _multiply() -> float:
    import torch

    torch.set_num_threads(1)
    layer, before = torch.nn.Linear(384, 1_536), 0.0
    for rows in range(400, 400 + NUM_SHAPES):
        with torch.autocast("cpu", torch.bfloat16):
            layer(torch.ones(rows, 384, requires_grad=True)).sum().backward()
        before = before or peak_memory_mb()
    return peak_memory_mb() - before


@pytest.mark.skipif(not has_native_bf16(), reason="this CPU has no bf16, and so no kernels of it to keep")
def test_kernels_of_shapes_that_are_gone_are_forgotten(monkeypatch):
    unbounded, bounded = grown_mb(monkeypatch, {}), grown_mb(monkeypatch, CPU_LIBRARIES)
    print(f"{unbounded:.0f} MB without, {bounded:.0f} MB with {CPU_LIBRARIES}")

    assert bounded < max(unbounded / 2, 300)  # where little is kept, there is little to forget
