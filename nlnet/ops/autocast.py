"""Autocast for code that chooses its own number types. Meta tensors, which have no numbers, have no autocast either."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def autocast_to(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the type that autocast has matrix products in, where it is on."""
    if not _is_on(tensors[0]):
        return tensors
    return tuple(tensor.to(type_of_products(tensor)) for tensor in tensors)


def type_of_products(tensor: Tensor) -> torch.dtype:
    """In which matrix products of this tensor are computed here."""
    return torch.get_autocast_dtype(tensor.device.type) if _is_on(tensor) else tensor.dtype


def _is_on(tensor: Tensor) -> bool:
    return not tensor.is_meta and torch.is_autocast_enabled(tensor.device.type)


def without_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """The context in which operations on the device of ``like`` keep the types that they are given."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)
