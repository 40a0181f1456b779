"""What the machine is, and the most that it could do: the yardstick of every GMAC/s."""

import platform
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nlnet.benchmark.timing import interleaved
from nlnet.config.runs import environment

SIZES = {"cpu": 2048, "cuda": 8192}  # of a square matrix; large enough that the arithmetic counts, not the call


def describe(device: torch.device) -> dict[str, Any]:
    """Versions, threads and the name of the processor, for the record."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {**environment(), "processor": name, "device": device.type}


def matrix_rate(dtype: torch.dtype, device: torch.device, *, turns: int = 5) -> float:
    """Multiply-adds a second of the machine's own matrix product, the best of ``turns``."""
    size = SIZES[device.type]
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    timing = interleaved({"product": partial(torch.mm, a, b)}, turns=turns, device=device)["product"]
    return size**3 / min(timing.seconds)


def _cpu_name() -> str:
    """As Linux tells it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
