"""Training batches from worker processes, in shared memory that is used again.

Memory that is new for each batch costs an eighth of a clip's time: its pages are made, cleared and mapped on both
sides. Here the training process has a few places for batches, which its workers share from their start. With the
sample numbers it tells a worker the place to fill, and a place is free again once nothing refers to its batch.
"""

import itertools
import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.reduction import DupFd
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Sampler

_NUMBERS = itertools.count()
_ALL: "weakref.WeakValueDictionary[int, SharedPlaces]" = weakref.WeakValueDictionary()


class Request(NamedTuple):
    """What a worker is asked for: the samples of a batch, and the place for its clips; None for memory of its own."""

    numbers: list[int]
    place: int | None


class SharedPlaces:
    """Shared memory for ``count`` batches of uint8 ``shape``. To be made before the workers start.

    The system gives it page by page, as it is filled, and /dev/shm, which is small in most containers, is not needed.
    """

    def __init__(self, count: int, shape: Sequence[int]) -> None:
        self._number = next(_NUMBERS)
        self._shape = (count, *shape)
        self._file = _memory_file(math.prod(self._shape))
        self._memory = _mapped(self._file, self._shape)
        self._free = list(range(count))  # the last one is taken first: it has its memory already
        _ALL[self._number] = self

    def take(self) -> int | None:
        """A free place, or None. For the training process."""
        return self._free.pop() if self._free else None

    def __getitem__(self, place: int) -> Tensor:
        """The memory of a place, for the worker that fills it."""
        return torch.from_numpy(self._memory[place])

    def sent(self, batch: Any, place: int | None) -> Any:
        """A batch whose ``clips`` fill a place as a worker sends it: the training process receives the batch.

        One that does not fill it, as there was none or its clips have another size, is sent as PyTorch does.
        """
        if place is not None and batch.clips.data_ptr() == self[place].data_ptr():
            return _Sent(self._number, place, batch)
        return batch

    def batch(self, place: int) -> Tensor:
        """What is in a place, for the training process. With the last tensor of this memory the place becomes free."""
        array = self._memory[place]  # an object of its own, which the tensor's memory keeps alive
        weakref.finalize(array, self._free.append, place).atexit = False
        return torch.from_numpy(array)

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is spawned: which places are free is not its concern."""
        return {"_number": self._number, "_shape": self._shape, "_file": DupFd(self._file.fileno())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._file = os.fdopen(state["_file"].detach(), "r+b")
        self._memory = _mapped(self._file, self._shape)


def _memory_file(size: int) -> IO[bytes]:
    """A file without a name that is memory; on the disk where the system has no such files."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("nlnet")
    else:
        descriptor, name = tempfile.mkstemp()
        os.unlink(name)
    file = os.fdopen(descriptor, "r+b")
    file.truncate(size)
    return file


def _mapped(file: IO[bytes], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(mmap.mmap(file.fileno(), math.prod(shape)), np.uint8).reshape(shape)


class _Sent:
    """A batch on its way: pickled by the number of its place, and by the values of its other, small tensors."""

    def __init__(self, number: int, place: int, batch: Any) -> None:
        self.number, self.place, self.batch = number, place, batch

    def __reduce__(self) -> Any:
        values = {
            name: value.numpy() if isinstance(value, Tensor) else value
            for name, value in self.batch._asdict().items()
            if name != "clips"
        }
        return _received, (type(self.batch), self.number, self.place, values)


def _received(kind: Any, number: int, place: int, values: dict[str, Any]) -> Any:
    tensors = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in values.items()
    }
    return kind(clips=_ALL[number].batch(place), **tensors)


class Requests(Sampler[Any]):
    """The batches of a sampler as requests, each with a place that is free when it is sent to a worker."""

    def __init__(self, batches: "Sampler[list[int]]", places: SharedPlaces) -> None:
        self.batches = batches
        self.places = places

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Request]:
        for numbers in self.batches:
            yield Request(numbers, self.places.take())
