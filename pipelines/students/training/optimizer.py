"""What moves the weights: AdamW, or Muon beside it, behind gradient clipping and, in fp16, a loss scaler.

The learning rate is set at every step, so there is no scheduler to keep.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.students.training_config import TrainingConfig

SMALLEST_SCALE = 1.0
"""Of fp16's loss: a gradient that overflows at that scale overflows without one."""


class Optimizer:
    """Matrices decay, vectors (biases, norms) don't; frozen weights are left out."""

    def __init__(
        self, model: nn.Module, config: TrainingConfig, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        """`dtype` is what the model's products are in; None: float32."""
        self._parameters, self._max_grad_norm = list(model.parameters()), config.max_grad_norm
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        by_muon = _hidden_matrices(model) if config.optimizer == "muon" else []
        by_adamw = [parameter for parameter in trained if not any(parameter is other for other in by_muon)]
        groups = [
            {"params": [weight for weight in by_adamw if weight.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [weight for weight in by_adamw if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizers: dict[str, torch.optim.Optimizer] = {
            "optimizer": torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        }
        if by_muon:
            muon = torch.optim.Muon if dtype else Float32Muon
            self._optimizers["muon"] = muon(
                by_muon, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss, scaled as `update` expects them."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def update(self, learning_rate: float) -> float | None:
        """Clip, step, and forget the gradients; returns their norm before clipping.

        None: they overflowed in fp16, and the scaler left the step out and lowered its scale.

        Raises:
            ArithmeticError: the norm is not finite, and no smaller scale would help; no weight has moved.
        """
        for optimizer in self._optimizers.values():
            self._scaler.unscale_(optimizer)
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm))
        if not math.isfinite(norm) and not (self._scaler.is_enabled() and self._scaler.get_scale() > SMALLEST_SCALE):
            raise ArithmeticError(f"has norm {norm}")
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            self._scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self._scaler.update()
        return norm if math.isfinite(norm) else None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        states = {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}
        return {**states, "scaler": self._scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])
        self._scaler.load_state_dict(state["scaler"])


class Float32Muon(torch.optim.Muon):
    """torch's own (2.13), whose iteration is in bf16 whatever its weights are: 25 times as long on a CPU without bf16.

    Of its options it knows those that are used here: Nesterov's momentum, steps scaled to AdamW's.

    Sources: Jordan 2024, https://kellerjordan.github.io/posts/muon (the iteration); Liu et al. 2025 (as below).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum, rate = self.state[weight], group["momentum"], group["lr"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        direction = _orthogonal(gradient.lerp(state["momentum_buffer"], momentum), group)
        weight.mul_(1 - rate * group["weight_decay"])
        weight.add_(direction, alpha=-rate * 0.2 * math.sqrt(max(weight.shape)))


def _orthogonal(matrix: Tensor, group: dict[str, Any]) -> Tensor:
    """About U V^T of the matrix's U S V^T, by Newton and Schulz's iteration in the matrix's own precision."""
    a, b, c = group["ns_coefficients"]
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    wide = wide / wide.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if is_tall else wide


def _hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The matrices that multiply a vector, trained ones: tables of embeddings are looked up in, which is no product.

    Source: Liu et al. 2025, https://arxiv.org/abs/2502.16982 (Muon, its steps scaled to AdamW's).
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices = [weight for weight in model.parameters() if weight.ndim == 2 and id(weight) not in tables]
    return [weight for weight in matrices if weight.requires_grad]
