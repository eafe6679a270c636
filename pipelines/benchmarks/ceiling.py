"""How much of a GPU's matmul ceiling a training step reaches, at the shape of the guide's student.

6 layers of ModernBERT, 768 wide, 512 tokens, bf16, random weights. The ceiling is measured on the same GPU: the best
of large square products. A step's arithmetic is counted as 6 per weight and token, with attention's products beside it.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from pipelines.unpadded.forward import hidden_states
from pipelines.unpadded.layout import Layout

TEXTS, TOKENS, LAYERS, WIDTH, INTERMEDIATE = 64, 512, 6, 768, 1152
ROUNDS = 10


def share_of_ceiling(device: torch.device) -> dict[str, Any]:
    """TFLOP/s of products and of training steps, forward and backward, and their ratio."""
    ceiling, reached = _product_flops(device), _step_flops(device)
    return {
        "contestant": f"ours, {LAYERS}-layer ModernBERT shape, {TOKENS} tokens, bf16",
        "tflops": round(reached / 1e12, 1),
        "ceiling_tflops": round(ceiling / 1e12, 1),
        "share_of_ceiling": round(reached / ceiling, 3),
    }


def _product_flops(device: torch.device) -> float:
    size = 8_192
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * size**3 / _seconds(lambda: left @ right, device)


def _step_flops(device: torch.device) -> float:
    config = AutoConfig.for_model("modernbert", num_hidden_layers=LAYERS)
    encoder = AutoModel.from_config(config).to(device)  # type: ignore[no-untyped-call]
    layout = Layout(torch.full((TEXTS,), TOKENS).numpy(), device)
    ids = torch.randint(0, config.vocab_size, (TEXTS * TOKENS,), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            states = hidden_states(encoder, ids, layout)
        states.float().square().mean().backward()  # type: ignore[no-untyped-call]
        encoder.zero_grad(set_to_none=True)

    weights = sum(weight.numel() for weight in encoder.layers.parameters())
    is_global = [kind == "full_attention" for kind in config.layer_types]
    seen = sum(TOKENS if full else min(TOKENS, 2 * config.sliding_window + 1) for full in is_global)
    flops_per_token = 6 * weights + 12 * WIDTH * seen
    return float(TEXTS * TOKENS * flops_per_token / _seconds(step, device))


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one run, after three to warm up."""
    for _ in range(3):
        run()
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(ROUNDS):
        run()
    torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / ROUNDS
