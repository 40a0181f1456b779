"""Reading files that PyTorch wrote, of anyone, without running what they hold."""

import pickle
import struct
from pathlib import Path
from typing import Any

import torch

from nlnet.errors import CheckpointError

# What the restricted unpickler raises on damaged and foreign files.
_UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    struct.error,
    pickle.UnpicklingError,
)


def read_plain(path: Path) -> Any:
    """What ``torch.save`` wrote, onto the CPU: tensors, numbers, strings and containers of them, nothing else.

    Raises:
        CheckpointError: the file is damaged, or holds anything that would have to be run.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise CheckpointError(f"{path}: not a file of tensors that can be read safely ({error})") from error
