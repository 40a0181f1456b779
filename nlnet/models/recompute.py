"""Activation checkpointing: parts of a network keep their input alone, and compute the rest again in the backward pass.

Memory for time: another forward pass of those parts. Gradients are the same bit for bit, dropout draws the same again,
and batch norm counts each batch once. Names of parameters and buffers stay as they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from nlnet.errors import ConfigError


def recomputed(model: nn.Module, names: Sequence[str]) -> nn.Module:
    """The network, changed in place so that these parts (res2, res3.0, …) recompute.

    A stage (a sequence of blocks) recomputes block by block: it keeps the input of each, and one block at a time is
    computed again. As a whole it would need the memory of all its blocks again when its turn comes.

    Raises:
        ConfigError: there is no such part, or one of them is inside another.
    """
    known = dict(model.named_modules())
    for name in names:
        if not name or name not in known:
            parts = ", ".join(child for child, _ in model.named_children())
            raise ConfigError(f"trainer.recompute: no part '{name}'; there are {parts}, and theirs (res2.0)")
        if outer := next((other for other in names if name.startswith(f"{other}.")), None):
            raise ConfigError(f"trainer.recompute: {name} is in {outer}, which recomputes it already; leave one out")
    for name in names:
        for part in _blocks(known[name]):
            part.forward = _Recomputed(part)
    return model


def recomputes(model: nn.Module) -> bool:
    """Whether parts of the network recompute."""
    return any(isinstance(module.__dict__.get("forward"), _Recomputed) for module in model.modules())


def _blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks of a stage; other modules are one."""
    blocks = [child for child in module.children() if any(child.children())]
    return blocks if isinstance(module, nn.Sequential) and blocks else [module]


class _Recomputed:
    """Stands in for the ``forward`` of one module. A deep copy of the module has one of its own."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, *inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*inputs)
        return checkpoint(self._forward, *inputs, use_reentrant=False, context_fn=self._contexts)

    def _forward(self, *inputs: Any) -> Any:
        return type(self.module).forward(self.module, *inputs)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Around the forward pass, and around the second one in the backward pass."""
        return nullcontext(), _statistics_kept(self.module)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """In the block, batch norm in training mode writes its running statistics into copies, which are thrown away."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
    kept = [dict(layer._buffers) for layer in layers]
    for layer, buffers in zip(layers, kept, strict=True):
        layer._buffers.update({name: buffer.clone() for name, buffer in buffers.items() if buffer is not None})
    try:
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            layer._buffers.update(buffers)
