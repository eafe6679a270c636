"""What moves the weights: AdamW behind gradient clipping and, in fp16, a loss scaler.

The learning rate is set at every step, so there is no scheduler to keep.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.students.config import TrainingConfig

SMALLEST_SCALE = 1.0
"""Of fp16's loss: a gradient that overflows at that scale overflows without one."""


class Optimizer:
    """Matrices decay, vectors (biases, norms) don't; frozen weights are left out."""

    def __init__(self, model: nn.Module, config: TrainingConfig, device: torch.device, *, is_fp16: bool) -> None:
        self._parameters, self._max_grad_norm = list(model.parameters()), config.max_grad_norm
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        groups = [
            {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
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
        self._scaler.unscale_(self._adamw)
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm))
        if not math.isfinite(norm) and not (self._scaler.is_enabled() and self._scaler.get_scale() > SMALLEST_SCALE):
            raise ArithmeticError(f"has norm {norm}")
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._scaler.step(self._adamw)
        self._scaler.update()
        self._adamw.zero_grad(set_to_none=True)
        return norm if math.isfinite(norm) else None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"optimizer": self._adamw.state_dict(), "scaler": self._scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self._adamw.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
