"""A network for inference: batch norm with fixed statistics folded into the linear map in front of it.

scale · (W x + b - mean) / √(var + eps) + bias is W' x + b' with W' = factor · W, b' = (b - mean) · factor + bias and
factor = scale / √(var + eps): the same logits but for rounding, with two passes over each feature map fewer.
Under autocast, the weights of linear maps take its type once and for all, rather than in every pass.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nlnet.models.non_local import NonLocalBlock
from nlnet.models.resnet import Bottleneck, VideoResNet
from nlnet.ops.autocast import type_of_products

Linear = nn.Conv3d | nn.Linear


def for_inference(model: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode, with the batch norms of nlnet's own parts folded; the model stays.

    Other layers are copied as they are; a network without nlnet's parts comes back as it is. The copy has no gradients.
    """
    if not any(_pairs(part) for part in model.modules()):
        return model
    model = copy.deepcopy(model).requires_grad_(False).eval()
    for part in model.modules():
        for linear, norm in _pairs(part):
            _fold(part.get_submodule(linear), part.get_submodule(norm))  # type: ignore[arg-type]
            part.set_submodule(norm, nn.Identity())
        if isinstance(part, Linear):
            part.to(type_of_products(part.weight))
    return model


def _pairs(part: nn.Module) -> list[tuple[str, str]]:
    """The names of the linear maps directly inside this part, and of the batch norms that follow each."""
    if isinstance(part, Bottleneck):
        names = [(name, f"{name}_bn") for name in ("branch1", "a", "b", "c") if hasattr(part, name)]
    elif isinstance(part, VideoResNet):
        names = [("stem.conv", "stem.bn")]
    elif isinstance(part, NonLocalBlock):
        names = [("out", "bn")]
    else:
        names = []
    return [(linear, norm) for linear, norm in names if isinstance(part.get_submodule(norm), _BatchNorm)]


@torch.no_grad()
def _fold(linear: Linear, norm: _BatchNorm) -> None:
    """In double precision, in place."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("batch norm without running statistics cannot be folded")

    def double(tensor: Tensor | None, otherwise: float) -> Tensor:
        return torch.full((1,), otherwise, dtype=torch.float64) if tensor is None else tensor.double()

    factor = (norm.running_var.double() + norm.eps).rsqrt() * double(norm.weight, 1.0).to(norm.running_var.device)
    bias = double(linear.bias, 0.0).to(factor.device) - norm.running_mean.double()
    bias = bias * factor + double(norm.bias, 0.0).to(factor.device)
    weight = linear.weight
    linear.weight = nn.Parameter((weight.double() * factor.view(-1, *[1] * (weight.dim() - 1))).to(weight.dtype), False)
    linear.bias = nn.Parameter(bias.to(weight.dtype), False)
