"""Number formats of the forward and backward pass."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nlnet.errors import ConfigError

Name = Literal["fp32", "bf16", "fp16"]
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast, and for fp16 the loss scale, around a training or evaluation step.

    Args:
        name: fp32 (no autocast), bf16 or fp16.
        device: fp16 needs a GPU.
        key: of the config, for messages.
    """

    def __init__(self, name: Name, device: torch.device, *, key: str = "trainer.precision") -> None:
        if name not in _TYPES:
            raise ConfigError(f"{key} must be one of {', '.join(_TYPES)}, not '{name}'")
        if name == "fp16" and device.type == "cpu":
            raise ConfigError(f"{key}=fp16 needs a GPU; on a CPU take bf16 or fp32")
        self.name = name
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=_TYPES[self.name], enabled=self.name != "fp32")

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    @property
    def judges_gradients(self) -> bool:
        """Whether an infinite gradient means no more than a smaller loss scale for the next step (fp16)."""
        return bool(self.scaler.is_enabled() and self.scaler.get_scale() >= 1)

    def step(self, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], *, clip: float | None) -> None:
        """Clips the gradients to the norm ``clip``, takes the optimiser's step and clears the gradients."""
        if clip is not None:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, clip)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
