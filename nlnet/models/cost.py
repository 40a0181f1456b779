"""What a network costs: parameters and multiply-adds, without running it."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: nn.Module) -> int:
    """The number of learned parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: nn.Module, clip: Sequence[int]) -> int:
    """Multiply-adds of one forward pass of one clip of (frames, height, width).

    Counted on the meta device: nothing is computed. Convolutions and matrix products count; batch norm, activations
    and pooling do not, as in the paper's table 2e. The model itself is untouched.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _on_meta(model).eval()(torch.empty(1, 3, *clip, device="meta"))
    return int(counter.get_total_flops()) // 2


def _on_meta(model: nn.Module) -> nn.Module:
    """A copy of the model without its numbers: deepcopy takes what the memo holds in place of each tensor."""
    memo: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    return copy.deepcopy(model, memo)
