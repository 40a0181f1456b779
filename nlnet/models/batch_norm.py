"""What batch norm does in training: a run's ``batch_norm`` option, applied to a network that has its first weights.

Each function takes a network and gives it back changed. Names of parameters and buffers stay the same, so that a
checkpoint of any of them loads into the others; networks in evaluation mode compute the same with all of them.
"""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nlnet.distributed import world_size
from nlnet.errors import ConfigError


class FrozenStatistics(_BatchNorm):
    """Batch norm that never leaves evaluation mode: y = scale · (x - mean) / √(var + eps) + bias, mean and var fixed.

    Scale and bias train, like those of any batch norm without weight decay (``nlnet.optim.groups``).
    """

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"batch norm takes [B, C, …], not {list(x.shape)}")


def normal(model: nn.Module) -> nn.Module:
    """Statistics of each process' batch, as in the paper (section 4.1) and in the authors' code for short clips."""
    return model


def frozen_statistics(model: nn.Module) -> nn.Module:
    """Running statistics, fixed; scale and bias train."""
    return _replaced(model, _with_fixed_statistics)


def folded(model: nn.Module) -> nn.Module:
    """Statistics folded into scale and bias, which train: what the authors do for long clips ("affine").

    scale' = scale / √(var + eps) and bias' = bias - mean · scale', behind mean 0 and var 1 - eps, as in
    process_data/convert_models of video-nonlocal-net. The outputs are those of ``frozen_statistics``, and both can
    reach the same functions, but by other steps: one of gradient descent here changes scale by
    (var + eps) · ∂scale + mean · √(var + eps) · ∂bias, there by ∂scale.
    """
    return _replaced(model, _folded_layer)


def frozen(model: nn.Module) -> nn.Module:
    """Running statistics, fixed, and scale and bias fixed too (the paper's "batch norm layers frozen", section 4.1)."""
    return _replaced(model, _frozen_layer)


def synchronised(model: nn.Module) -> nn.Module:
    """Statistics of the batches of all processes together; in one process, that is ``normal``.

    Raises:
        ConfigError: several processes on CPUs; PyTorch has it for GPUs alone.
    """
    if world_size() == 1:
        return model
    if any(parameter.device.type == "cpu" for parameter in model.parameters()):
        raise ConfigError(
            "batch_norm=synchronised needs a GPU for each process; on CPUs take batch_norm=normal, or one process"
        )
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return converted


def _replaced(model: nn.Module, make: Callable[[_BatchNorm], nn.Module]) -> nn.Module:
    """The network with each batch norm replaced by what ``make`` makes of it, wherever it is."""
    if isinstance(model, _BatchNorm):
        return make(model)
    for name, child in model.named_children():
        setattr(model, name, _replaced(child, make))
    return model


def _with_fixed_statistics(layer: _BatchNorm) -> FrozenStatistics:
    """A layer of the same parameters, buffers and numbers."""
    if layer.running_mean is None:
        raise ConfigError("batch_norm: a layer without running statistics has none to freeze")
    fixed = FrozenStatistics(layer.num_features, eps=layer.eps, momentum=layer.momentum, affine=layer.affine)
    fixed.weight, fixed.bias = layer.weight, layer.bias
    fixed.running_mean, fixed.running_var = layer.running_mean, layer.running_var
    fixed.num_batches_tracked = layer.num_batches_tracked
    return fixed.eval()


def _folded_layer(layer: _BatchNorm) -> FrozenStatistics:
    fixed = _with_fixed_statistics(layer)
    assert fixed.running_mean is not None
    assert fixed.running_var is not None
    with torch.no_grad():
        factor = (fixed.running_var.double() + fixed.eps).rsqrt()
        fixed.bias.copy_(fixed.bias - fixed.running_mean * fixed.weight * factor)
        fixed.weight.copy_(fixed.weight * factor)
        fixed.running_mean.zero_()
        fixed.running_var.fill_(1 - fixed.eps)
    return fixed


def _frozen_layer(layer: _BatchNorm) -> FrozenStatistics:
    return _with_fixed_statistics(layer).requires_grad_(False)
