"""Peak memory, measured in a fresh process for each configuration, so that none inherits another's heap."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TypeVar

import torch

from nlnet.benchmark.timing import Step
from nlnet.engine.memory import highest_resident, resident

Result = TypeVar("Result")


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
    return in_fresh_process(measure, make, steps, device, threads or torch.get_num_threads())


def in_fresh_process(work: Callable[..., Result], *arguments: object) -> Result:
    """What ``work`` gives in a new process; all must be picklable.

    Raises:
        MemoryError: the process was killed, as Linux does when memory runs out.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool as error:
            raise MemoryError("the process that measured peak memory was killed; was there enough memory?") from error


def measure(make: Callable[[], Step], steps: int, device: torch.device, threads: int) -> Peak:
    """As ``peak_memory``, in this process, which should be a new one."""
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
