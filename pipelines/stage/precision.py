"""Which precision `auto` is on a CPU, decided once for a run: by what the processor can do, and a measured second.

bf16 needs instructions of its own: without them a CPU takes several times as long as in float32. With them it still
depends on the shapes: a tiny model spends its time elsewhere.
"""

import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

NATIVE_BF16 = ("avx512_bf16", "amx_bf16")
SMALLEST_WIDTH = 128
"""Of a model's layers: narrower ones take so little time that a measurement would be chance."""
TOKENS = 1_024
ROUNDS = 7
WORTH_IT = 1.25
"""So many times faster than float32 is bf16 to be taken: below that its rounding buys nothing."""


def has_native_bf16() -> bool:
    """Whether this CPU has instructions for bf16."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in NATIVE_BF16)


def fastest_on_cpu(width: int, intermediate_width: int, threads: int) -> Literal["float32", "bf16"]:
    """Of linear layers of a model's shapes, forward and backward, on so many threads of this machine."""
    if width < SMALLEST_WIDTH or not has_native_bf16():
        return "float32"
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seconds = {bf16: _measure(_layer(width, intermediate_width), bf16) for bf16 in (False, True)}
    finally:
        torch.set_num_threads(before)
    return "bf16" if seconds[False] > WORTH_IT * seconds[True] else "float32"


def _layer(width: int, intermediate_width: int) -> Callable[[], None]:
    """One pass forward and backward through the linear layers of one layer."""
    shapes = [*[(width, width)] * 4, (width, intermediate_width), (intermediate_width, width)]
    layer = nn.Sequential(*[nn.Linear(*shape) for shape in shapes])
    states = torch.ones(TOKENS, width)

    def run() -> None:
        layer(states).sum().backward()
        layer.zero_grad()

    return run


def _measure(run: Callable[[], None], bf16: bool) -> float:
    """Seconds of the quickest of some rounds, by this process's own clock: a busy machine does not decide."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            run()
        seconds.append(time.process_time() - started)
    return min(seconds)
