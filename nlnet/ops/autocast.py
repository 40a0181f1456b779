"""Autocast for code that chooses its own number types. Meta tensors, which have no numbers, have no autocast either."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def autocast_to(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the type that autocast has matrix products in, where it is on."""
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(tensor.to(dtype) for tensor in tensors)


def without_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """The context in which operations on the device of ``like`` keep the types that they are given."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)
