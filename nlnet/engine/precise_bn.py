"""Precise batch norm: the statistics of the current weights, measured, in place of the running averages.

A running average mixes the statistics of many past weights and of few clips each. The authors measure them anew, with
200 batches, in front of each checkpoint and test (video-nonlocal-net, lib/utils/bn_helper.py); so does SlowFast.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nlnet import distributed


def measure_statistics(
    model: nn.Module, clips: Iterable[Tensor], *, autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> int:
    """Sets each batch norm's running mean and variance to those of its inputs over all clips of all processes.

    The model runs in training mode, so that a layer sees what it sees in training: the layers in front of it
    normalise with their batch. Mean E[x] and variance E[x²] - E[x]² are over all values of a channel, each counting
    the same whatever the size of its batch. Weights, gradients and batch counters stay as they are, and so do layers
    that normalise with fixed statistics (frozen ones). All processes end with the same numbers.

    Args:
        model: the network itself, not its data-parallel replica.
        clips: this process' share in batches [B, 3, T, H, W], normalised and on the model's device.
        autocast: makes the context that the forward passes of training run in.

    Returns:
        How many layers were measured; with none, no clip is asked for.
    """
    was_training = model.training
    model.train()
    layers = [
        _Layer(module)
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
    ]
    if layers:
        with ExitStack() as hooks, torch.no_grad():
            for layer in layers:
                hooks.callback(layer.module.register_forward_pre_hook(layer.add).remove)
            for batch in clips:
                with autocast():
                    model(batch)
        sizes = [layer.module.num_features for layer in layers]
        sums_3C = distributed.sum_across(torch.cat([layer.sums for layer in layers], dim=1))
        for layer, sums in zip(layers, sums_3C.split_with_sizes(sizes, dim=1), strict=True):
            layer.set(sums)
    model.train(was_training)
    return len(layers)


class _Layer:
    """A batch norm of C channels and the sums over its inputs: [3, C] of 1, x and x², in double precision."""

    def __init__(self, module: _BatchNorm) -> None:
        self.module = module
        self.counter = None if module.num_batches_tracked is None else module.num_batches_tracked.clone()
        device = module.running_mean.device  # type: ignore[union-attr]
        self.sums = torch.zeros(3, module.num_features, dtype=torch.float64, device=device)

    def add(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].float()  # [B, C, …]
        variance, mean = torch.var_mean(x, dim=[0, *range(2, x.dim())], correction=0)
        mean, variance = mean.double(), variance.double()
        count = x.numel() // x.shape[1]
        self.sums += count * torch.stack([torch.ones_like(mean), mean, variance + mean.square()])

    def set(self, sums: Tensor) -> None:
        count, of_x, of_squares = sums
        mean = of_x / count
        module = self.module
        module.running_mean.copy_(mean)  # type: ignore[union-attr]
        module.running_var.copy_((of_squares / count - mean.square()).clamp_min(0))  # type: ignore[union-attr]
        if self.counter is not None:
            module.num_batches_tracked.copy_(self.counter)  # type: ignore[union-attr]
