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

    def __init__(self, model: nn.Module, config: TrainingConfig, device: torch.device, *, is_fp16: bool) -> None:
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
            self._optimizers["muon"] = torch.optim.Muon(
                by_muon, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        self._scaler = torch.amp.GradScaler(device.type, enabled=is_fp16)

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


def _hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The matrices that multiply a vector, trained ones: tables of embeddings are looked up in, which is no product.

    Source: Liu et al. 2025, https://arxiv.org/abs/2502.16982 (Muon, its steps scaled to AdamW's).
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices = [weight for weight in model.parameters() if weight.ndim == 2 and id(weight) not in tables]
    return [weight for weight in matrices if weight.requires_grad]
