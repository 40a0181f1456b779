"""Memory of training: how much a step will take, said before a run, and what helps where it was too much.

The estimate runs a step on fake tensors, which have shapes but no numbers, and counts the bytes of those alive.
"""

import copy
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from nlnet.engine.losses import Loss
from nlnet.engine.precision import Precision
from nlnet.errors import OutOfMemory
from nlnet.models.recompute import recomputes

# On a CPU a process holds more than what is alive: activations of many sizes come in one order and are freed in
# another, and the C library keeps the holes. More of them where activations are made again in between. Both factors are
# fitted to measured networks (docs/performance.md).
HOLES = 1.2
HOLES_RECOMPUTED = 1.5


class _AliveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of all storages that were made while the mode is on and are alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.highest = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def hold(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            self._known.add(storage)
            weakref.finalize(storage, self._release, storage.nbytes())
            self.now += storage.nbytes()
            self.highest = max(self.highest, self.now)

    def _release(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = function(*args, **(kwargs or {}))
        for output in tree_iter(outputs):
            if isinstance(output, Tensor):
                self.hold(output.untyped_storage())
        return outputs


def estimate(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    clips: Sequence[int],
    classes: int,
    to_input: Callable[[Tensor], Tensor],
    loss: Loss,
    precision: Precision,
) -> int:
    """Bytes at the highest point of a training step: weights, momentum, activations, gradients.

    On a GPU, of all tensors. On a CPU, of the whole process: what it holds now, the model in it, comes on top. What
    libraries take for themselves while they compute is not known. Nothing is computed, and the arguments stay as they
    are.

    Args:
        model, optimizer: as at the start of a run.
        clips: [b, T, H, W] of one micro-batch.
        classes: K of its logits.
        to_input, loss, precision: as in the training step.
    """
    before = held(model)
    device = precision.device
    with FakeTensorMode(), _AliveBytes() as alive:
        memo: dict[int, Any] = {}
        for tensor in [*model.parameters(), *model.buffers()]:
            empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
            memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        model, optimizer = copy.deepcopy((model, optimizer), memo)
        model.train()
        del memo, empty
        b = clips[0]
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
        optimizer.step()  # a first one, which makes the momentum
        optimizer.zero_grad(set_to_none=True)
        pixels = torch.empty(*clips, 3, dtype=torch.uint8, device=device)
        labels = torch.empty(b, classes, device=device) if loss.multi_label else torch.empty(b, dtype=torch.int64)
        with precision.autocast():
            logits = model(to_input(pixels))
            value = loss(logits.float(), labels.to(device))
            value.backward()  # type: ignore[no-untyped-call]
        del logits, value, pixels
        optimizer.step()
    highest = int(alive.highest)
    if device.type == "cuda":
        return highest
    return resident() + int((HOLES_RECOMPUTED if recomputes(model) else HOLES) * (highest - before))


def held(model: nn.Module) -> int:
    """Bytes of the parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()])


def resident() -> int:
    """Bytes of this process that are in memory now; its peak so far where the system does not tell."""
    return _status("VmRSS") or highest_resident()


def highest_resident() -> int:
    """The most bytes of this process that ever were in memory."""
    # Linux' getrusage would not do: its peak survives exec, so that a child has that of the process that started it.
    if known := _status("VmHWM"):
        return known
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(name: str) -> int:
    """A size of /proc/self/status in bytes; 0 where there is no such file."""
    return _size_in(Path("/proc/self/status"), name)


def available(device: torch.device) -> int | None:
    """Bytes that are free on the device now; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _size_in(Path("/proc/meminfo"), "MemAvailable") or None


def _size_in(path: Path, name: str) -> int:
    """A line ``name: 123 kB`` of a file of Linux, in bytes; 0 where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


ADVICE = (
    "trainer.accumulate=N splits a step into N parts with the same result but for batch norm, trainer.recompute=[res2,"
    "res3] keeps less for the backward pass, trainer.precision=bf16 halves most of it; a smaller data.augment.crop, "
    "data/clip or trainer.batch_size helps too"
)


@contextmanager
def out_of_memory_explained(device: torch.device, *, advice: str = ADVICE) -> Iterator[None]:
    """Memory that runs out in the block becomes an error of one line that names what helps.

    Raises:
        OutOfMemory: in place of PyTorch's errors. Where Linux kills the process, nothing can be said.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError, of GPUs, is a RuntimeError
        if not ran_out(error):
            raise
        asked = str(error).strip().splitlines()[0] if str(error).strip() else "no memory left"
        raise OutOfMemory(f"out of memory on {device} ({asked}). {advice}") from error


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
