"""Which parameters decay, and how the learning rate follows the batch."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nlnet.errors import ConfigError


def parameter_groups(model: nn.Module, *, weight_decay: float, norm_weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Optimiser groups: all but batch norm, biases too, decay by one number, batch norm by another.

    That is 0 by the authors' rule and SlowFast's; MMAction2 makes no difference.
    """
    norms = [p for m in model.modules() if isinstance(m, _BatchNorm) for p in m.parameters(recurse=False)]
    in_norms = {id(parameter) for parameter in norms}
    others = [parameter for parameter in model.parameters() if id(parameter) not in in_norms]
    groups = [(others, weight_decay), (norms, norm_weight_decay)]
    return [{"params": [p for p in ps if p.requires_grad], "weight_decay": decay} for ps, decay in groups]


def sgd(
    model: nn.Module,
    *,
    batch_size: int,
    lr: float,
    reference_batch: int | None = 64,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 1e-4,
    norm_weight_decay: float = 0.0,
) -> torch.optim.SGD:
    """SGD with a weight decay of its own for batch norm, and the linear rule for the learning rate.

    Args:
        batch_size: clips of one step, over all processes.
        lr: learning rate at ``reference_batch`` clips; None for ``reference_batch`` takes ``lr`` as it is.

    Raises:
        ConfigError: a number out of its range.
    """
    if lr < 0 or not math.isfinite(lr):
        raise ConfigError(f"optim.lr={lr} must be a number of at least 0, such as 0.01")
    if not 0 <= momentum < 1:
        raise ConfigError(f"optim.momentum={momentum} must be in [0, 1), such as 0.9")
    if nesterov and momentum == 0:
        raise ConfigError("optim.nesterov=true needs a momentum: set optim.momentum=0.9, or optim.nesterov=false")
    for name, decay in (("weight_decay", weight_decay), ("norm_weight_decay", norm_weight_decay)):
        if decay < 0 or not math.isfinite(decay):
            raise ConfigError(f"optim.{name}={decay} must be a number of at least 0, such as 0.0001")
    if reference_batch is not None and reference_batch < 1:
        raise ConfigError(
            f"optim.reference_batch={reference_batch} is the number of clips that optim.lr is for, at least 1; null "
            "takes optim.lr as it is"
        )
    groups = parameter_groups(model, weight_decay=weight_decay, norm_weight_decay=norm_weight_decay)
    return torch.optim.SGD(
        groups,
        lr=lr if reference_batch is None else lr * batch_size / reference_batch,
        momentum=momentum,
        nesterov=nesterov,
        # One pass over the weights: a quarter of the time on CPUs, where PyTorch does not take it by itself. Not on
        # GPUs: where the loss scale skips the first step, its momentum is undefined.
        fused=all(parameter.device.type == "cpu" for group in groups for parameter in group["params"]) or None,
    )
