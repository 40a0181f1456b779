"""Peak memory, measured in a fresh process for each configuration, so that none inherits another's heap."""

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from nlnet.benchmark.timing import Step


@dataclass(frozen=True)
class Peak:
    """Bytes: held when all was built, and at the highest point of the steps.

    Of the whole process on a CPU (resident memory); of the tensors on a GPU.
    """

    before: int
    highest: int

    @property
    def growth(self) -> int:
        return self.highest - self.before


def peak_memory(make: Callable[[], Step], *, steps: int, device: torch.device, threads: int | None = None) -> Peak:
    """The peak of ``steps`` steps of what ``make`` builds, in a process of its own.

    Args:
        make: builds everything there and gives one step; it must be picklable: a function of a module, or a
            ``functools.partial`` of one.
        device: whose memory.
        threads: of the process; by default as many as here.

    Raises:
        MemoryError: the process was killed, as Linux does when memory runs out.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(_measure, make, steps, device, threads or torch.get_num_threads()).result()
        except BrokenProcessPool as error:
            raise MemoryError("the process that measured peak memory was killed; was there enough memory?") from error


def _measure(make: Callable[[], Step], steps: int, device: torch.device, threads: int) -> Peak:
    torch.set_num_threads(threads)
    step = make()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = resident()
    for _ in range(steps):
        step()
    return Peak(before, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else highest_resident())


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
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
