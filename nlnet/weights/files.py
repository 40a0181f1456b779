"""Reading files of tensors, of anyone, without running what they hold."""

import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nlnet.errors import CheckpointError

# What the restricted unpicklers raise on damaged and foreign files.
_UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
    pickle.UnpicklingError,
)
# The beginnings of what torch.save writes: a zip archive since PyTorch 1.6, a pickled magic number before.
_TORCH_BEGINNINGS = (b"PK", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")


def read_plain(path: Path) -> Any:
    """What ``torch.save`` wrote, onto the CPU: tensors, numbers, strings and containers of them, nothing else.

    Raises:
        CheckpointError: the file is damaged, or holds anything that would have to be run.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise CheckpointError(f"{path}: not a file of tensors that can be read safely ({_in_short(error)})") from error


def _in_short(error: BaseException) -> str:
    """PyTorch's advice of several lines on an unsafe file as one: what the file names, and the mend."""
    if match := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it names {match[1]}, which would have to be run; save its tensors alone, as a state dict"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_torch_file(path: Path) -> bool:
    """Whether ``torch.save`` wrote this file.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(32).startswith(_TORCH_BEGINNINGS)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The NumPy arrays of a pickle, as Python 2 programs such as Caffe2's wrote them: flat, or under ``blobs``.

    The unpickler builds arrays, numbers, strings and containers. It looks no other name up, so nothing can be run.

    Raises:
        CheckpointError: the file is damaged, names anything else, or holds no arrays.
    """
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except _UNREADABLE as error:
        raise CheckpointError(f"{path}: not a pickle of arrays that can be read safely ({_in_short(error)})") from error
    blobs = content.get("blobs", content) if isinstance(content, dict) else None
    arrays = (
        {str(name): blob for name, blob in blobs.items() if isinstance(blob, np.ndarray) and blob.dtype.kind in "fiu"}
        if isinstance(blobs, dict)
        else {}
    )
    if not arrays:
        raise CheckpointError(f"{path}: holds no arrays by name, nor under 'blobs'")
    # A copy in this machine's byte order: PyTorch takes no other, and arrays of a pickle may be read-only.
    return {name: torch.from_numpy(blob.astype(blob.dtype.newbyteorder("="))) for name, blob in arrays.items()}


class _ArraysOnly(pickle.Unpickler):
    """Builds NumPy arrays and numbers of them. All other names of a pickle are refused before they are imported."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy"):
            if name == "ndarray":
                return np.ndarray
            makers: dict[str, Callable[..., Any]] = {
                "_reconstruct": _empty_array,
                "scalar": _number,
                "dtype": _number_type,
            }
            if name in makers:
                return _sealed(makers[name])
        # How Python 3 writes bytes in the protocols of Python 2, and those of length 0.
        if (module, name) == ("_codecs", "encode"):
            return _sealed(_latin1)
        if (module, name) == ("__builtin__", "bytes"):
            return lambda: b""
        raise pickle.UnpicklingError(f"it names {module}.{name}, which would have to be run")


def _empty_array(kind: type, shape: tuple[int, ...], code: str | bytes) -> np.ndarray[Any, Any]:
    """What an array's pickle starts from: it has no elements until its state is set."""
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("it builds an array in an unknown way")
    return np.empty((0,), dtype=np.int8)


def _sealed(make: Callable[..., Any]) -> Callable[..., Any]:
    """The same callable in an object of its own: a pickle may set attributes on whatever it is handed."""
    return lambda *arguments: make(*arguments)


def _number_type(code: str, align: int = 0, copy: int = 1) -> np.dtype[Any]:
    """A type of numbers, which the pickle then gives its byte order; Python objects are refused."""
    found: np.dtype[Any] = np.dtype(code, bool(align), bool(copy))
    if found.kind not in "biufcSU" or found.hasobject:
        raise pickle.UnpicklingError(f"it holds arrays of {found}, not of numbers")
    return found


def _number(kind: np.dtype[Any], data: str | bytes) -> Any:
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype=kind)[0]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")
