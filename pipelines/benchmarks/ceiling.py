"""How much of what a machine's products reach a model reaches: in training on a GPU, and a teacher in scoring.

Training: 6 layers of ModernBERT, 768 wide, 512 tokens, bf16, random weights; a step's arithmetic is counted as 6 per
weight and token, scoring's as 2, with attention's products beside it. The ceiling is measured on the same machine:
large square products on a GPU, or a model's own weights by as many tokens as a batch has.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from pipelines.teachers.first_token import LastLayer
from pipelines.unpadded.forward import compile_layers, hidden_states, layers_of
from pipelines.unpadded.layout import Layout

TEXTS, TOKENS, LAYERS, WIDTH, INTERMEDIATE = 64, 512, 6, 768, 1152
ROUNDS = 10


def share_of_ceiling(device: torch.device) -> dict[str, Any]:
    """TFLOP/s of products and of training steps, forward and backward, and their ratio."""
    ceiling, reached = large_product_flops(device), _step_flops(device)
    return {
        "contestant": f"ours, {LAYERS}-layer ModernBERT shape, {TOKENS} tokens, bf16",
        "tflops": round(reached / 1e12, 1),
        "ceiling_tflops": round(ceiling / 1e12, 1),
        "share_of_ceiling": round(reached / ceiling, 3),
    }


def scoring_flops(model: PreTrainedModel, lengths: NDArray[np.integer]) -> float:
    """What a cross-encoder's layers compute of pairs of so many tokens each, padding and heads left out."""
    config, flops = model.config, 0.0
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    for kind, layer in zip(kinds, layers_of(model.base_model), strict=True):
        weights = sum(linear.weight.numel() for linear in _linears(layer))
        seen = lengths if kind == "full_attention" else np.minimum(lengths, 2 * config.sliding_window + 1)
        if isinstance(layer, LastLayer):  # keys and values of all tokens, the rest of the first one
            own = layer.layer.attention.self
            of_all = own.key.weight.numel() + own.value.weight.numel()
            flops += 2.0 * (of_all * lengths.sum() + (weights - of_all) * len(lengths))
            flops += 4.0 * config.hidden_size * lengths.sum()
        else:
            flops += 2.0 * weights * lengths.sum() + 4.0 * config.hidden_size * float((lengths * seen).sum())
    return float(flops)


def own_product_flops(model: PreTrainedModel, tokens: int) -> float:
    """FLOP/s of the products of one layer's weights with the states of so many tokens, nothing else."""
    weights = [linear.weight for linear in _linears(layers_of(model.base_model)[0])]
    states = [torch.randn(tokens, weight.shape[1], device=weight.device, dtype=weight.dtype) for weight in weights]

    def run() -> None:
        for state, weight in zip(states, weights, strict=True):
            nn.functional.linear(state, weight)

    with torch.inference_mode():
        return 2.0 * tokens * sum(weight.numel() for weight in weights) / float(_seconds(run, model.device))


def busy_share(run: Callable[[], object]) -> float:
    """Of the time from the first to the last thing that the GPU does, that in which it computes or copies."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        run()
        torch.cuda.synchronize()
    spans = [event.time_range for event in profiled.events() if event.device_type.name == "CUDA"]
    busy = sum(span.end - span.start for span in spans)
    return float(busy / (max(span.end for span in spans) - min(span.start for span in spans)))


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]


def large_product_flops(device: torch.device) -> float:
    """FLOP/s of large square products in bf16."""
    size = 8_192
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * size**3 / _seconds(lambda: left @ right, device)


def _step_flops(device: torch.device) -> float:
    config = AutoConfig.for_model("modernbert", num_hidden_layers=LAYERS)
    encoder = AutoModel.from_config(config).to(device)  # type: ignore[no-untyped-call]
    compile_layers(encoder)
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
    wait: Callable[[], None] = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    for _ in range(3):
        run()
    wait()
    started = time.perf_counter()
    for _ in range(ROUNDS):
        run()
    wait()
    return (time.perf_counter() - started) / ROUNDS
