"""Learning-rate schedules: pure functions of the progress of a run.

Progress runs from 0 (start) to 1 (end), so that a schedule fits any number of epochs and any batch size. A schedule
returns the factor that the base learning rate is multiplied by.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nlnet.errors import ConfigError


class Schedule(Protocol):
    """progress in [0, 1) -> factor of the learning rate."""

    def __call__(self, progress: float) -> float: ...


def _check_warmup(warmup: float) -> None:
    if not 0 <= warmup < 1:
        raise ConfigError(f"schedule.warmup is a fraction of the run (its epochs / trainer.epochs), not {warmup}")


def _warm(progress: float, *, warmup: float, start: float) -> float:
    """Linear from ``start`` to 1 over the first ``warmup`` of the run."""
    return start + (1 - start) * progress / warmup if progress < warmup else 1.0


@dataclass(frozen=True)
class Step:
    """Multiplied by ``gamma`` at each milestone; the paper has them at 150k and 300k of 400k iterations."""

    milestones: Sequence[float] = (0.375, 0.75)
    gamma: float = 0.1
    warmup: float = 0.0
    warmup_start: float = 0.1

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise ConfigError(
                f"schedule.milestones are rising fractions of the run (their epochs / trainer.epochs), not "
                f"{list(self.milestones)}"
            )
        if self.gamma < 0:
            raise ConfigError(f"schedule.gamma={self.gamma} must be at least 0, such as 0.1")
        _check_warmup(self.warmup)

    def __call__(self, progress: float) -> float:
        passed = sum(progress >= milestone for milestone in self.milestones)
        return self.gamma**passed * _warm(progress, warmup=self.warmup, start=self.warmup_start)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to 0 over the whole run, its beginning damped by a linear warm-up."""

    warmup: float = 0.0
    warmup_start: float = 0.1

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)

    def __call__(self, progress: float) -> float:
        return (0.5 + 0.5 * math.cos(math.pi * progress)) * _warm(progress, warmup=self.warmup, start=self.warmup_start)


@dataclass(frozen=True)
class LinearWarmup:
    """A straight line from ``start`` to where ``schedule`` is at ``warmup``, and ``schedule`` from there on.

    SlowFast's warm-up (slowfast/utils/lr_policy.py). That of ``Step`` and ``Cosine`` is a factor on their curve
    instead; the two agree where the curve is flat.
    """

    schedule: Schedule
    warmup: float
    start: float

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)

    def __call__(self, progress: float) -> float:
        if progress >= self.warmup:
            return self.schedule(progress)
        return self.start + (self.schedule(self.warmup) - self.start) * progress / self.warmup
