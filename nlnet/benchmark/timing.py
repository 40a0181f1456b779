"""Time, measured in interleaved turns.

Things that are compared take turns, A B A B …, in one process: whatever else the machine does then slows both, and the
ratio of each pair of turns is free of it.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Step = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of one step, one number for each turn; at least one."""

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio(self, faster: "Timing") -> "Ratio":
        """How many times as fast ``faster`` is, turn by turn."""
        return Ratio([mine / other for mine, other in zip(self.seconds, faster.seconds, strict=True)])


@dataclass(frozen=True)
class Ratio:
    """One ratio for each pair of turns."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        """1.27 (1.24–1.31): the median, the smallest and the largest."""
        return f"{self.median:.2f} ({min(self.values):.2f}–{max(self.values):.2f})"


def interleaved(
    steps: Mapping[str, Step], *, turns: int, device: torch.device, least_s: float = 0.1, warm_up: int = 1
) -> dict[str, Timing]:
    """Times steps in turns: name -> Timing of ``turns`` numbers.

    Args:
        steps: name -> what is timed.
        turns: how often each of them comes.
        device: waited for at the end of each turn.
        least_s: a step that takes less is repeated within its turn, so that a turn takes about this long.
        warm_up: steps of each that are run and not counted.
    """
    repeats = {}
    for name, step in steps.items():
        for _ in range(warm_up):
            step()
        repeats[name] = max(1, round(least_s / max(_seconds(step, 1, device), 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            seconds[name].append(_seconds(step, repeats[name], device))
    return {name: Timing(values) for name, values in seconds.items()}


def _seconds(step: Step, repeats: int, device: torch.device) -> float:
    """The mean time of ``repeats`` steps."""
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    wait(device)
    return (time.perf_counter() - start) / repeats


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
