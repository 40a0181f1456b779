"""Batches whose clips are mixed in pairs, their labels too: mixup and CutMix.

With r samples in a row of each video, sample n is mixed with n + r or n - r: the first r of each 2 r with the others.
So a pair lies in one micro-batch whatever the number of processes, and what becomes of it is drawn by a generator of
its own: it depends on the seed and the numbers of its samples alone.

Axes: B clips, C channels, T time, H height, W width; K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nlnet.data.sampling import sample_generator
from nlnet.errors import ConfigError


class Mix(Protocol):
    """A rule for one pair: two clips [2, C, T, H, W], a generator -> the two mixed clips, and the share of each that
    is still its own, 0 to 1. The clips are not changed in place."""

    def __call__(self, pair: Tensor, generator: np.random.Generator) -> tuple[Tensor, float]: ...


@dataclass(frozen=True)
class NoMix:
    """Leaves each clip as it is."""

    def __call__(self, pair: Tensor, generator: np.random.Generator) -> tuple[Tensor, float]:
        return pair, 1.0


@dataclass(frozen=True)
class Mixup:
    """Both clips become sums of the two (arXiv 1710.09412): share x self + (1 - share) x other, share ~ Beta(a, a).

    Args:
        alpha: a; small ones mix little.
        probability: of a pair to be mixed.
    """

    alpha: float = 0.8
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check(self.alpha, self.probability)

    def __call__(self, pair: Tensor, generator: np.random.Generator) -> tuple[Tensor, float]:
        if generator.random() >= self.probability:
            return pair, 1.0
        own = float(generator.beta(self.alpha, self.alpha))
        return torch.lerp(pair.flip(0), pair, own), own


@dataclass(frozen=True)
class CutMix:
    """A box of all frames is exchanged between the two clips (arXiv 1905.04899).

    Its area is 1 - Beta(a, a) of the frame, its shape the frame's, its centre uniform; what sticks out is cut off, and
    the share of the labels is that of the pixels.

    Args:
        alpha, probability: as for ``Mixup``.
    """

    alpha: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check(self.alpha, self.probability)

    def __call__(self, pair: Tensor, generator: np.random.Generator) -> tuple[Tensor, float]:
        if generator.random() >= self.probability:
            return pair, 1.0
        edge = float(np.sqrt(1 - generator.beta(self.alpha, self.alpha)))
        (top, bottom), (left, right) = (_stretch(length, edge, generator) for length in pair.shape[-2:])
        mixed = pair.clone()
        mixed[..., top:bottom, left:right] = pair.flip(0)[..., top:bottom, left:right]
        height, width = pair.shape[-2:]
        return mixed, 1 - (bottom - top) * (right - left) / (height * width)


@dataclass(frozen=True)
class OneOf:
    """One of two rules for each pair.

    Args:
        second_share: probability of the second.
    """

    first: Mix
    second: Mix
    second_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.second_share <= 1:
            raise ConfigError(f"data.mix.second_share must be between 0 and 1, not {self.second_share}")

    def __call__(self, pair: Tensor, generator: np.random.Generator) -> tuple[Tensor, float]:
        rule = self.second if generator.random() < self.second_share else self.first
        return rule(pair, generator)


@dataclass(frozen=True)
class PairMixer:
    """Mixes micro-batches.

    Args:
        rule: for a pair.
        seed: of the run.
        num_classes: K.
        repeats: samples in a row that are of one video.
    """

    rule: Mix
    seed: int
    num_classes: int
    repeats: int = 1

    def check(self, micro_batch: int) -> None:
        """Refuses micro-batches of which some clips have their partner elsewhere."""
        if micro_batch % (2 * self.repeats):
            raise ConfigError(
                f"data/mix: {micro_batch} clips of one process and micro-batch (trainer.batch_size / processes / "
                f"trainer.accumulate) cannot be paired; it must be a multiple of 2 x data.repeats = {2 * self.repeats}"
            )

    def __call__(self, clips: Tensor, targets: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Clips [B, C, T, H, W], targets int64 [B] or float [B, K], sample numbers -> mixed clips, targets [B, K].

        The mixed targets of a clip are its own and its partner's in the same shares as its pixels.
        """
        self.check(len(clips))
        targets_BK = F.one_hot(targets, self.num_classes).float() if targets.ndim == 1 else targets
        clips, targets_BK = clips.clone(), targets_BK.clone()
        for first in range(len(clips)):
            if first // self.repeats % 2:
                continue  # the second of its pair
            pair = [first, first + self.repeats]
            # Keys of three numbers that end with 2 are nobody else's.
            clips[pair], own = self.rule(clips[pair], sample_generator(self.seed, numbers[first], 2))
            targets_BK[pair] = torch.lerp(targets_BK[pair].flip(0), targets_BK[pair], own)
        return clips, targets_BK


def _stretch(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    """Start and end of a stretch of about ``share`` of ``length``, around a random pixel, as far as it lies inside."""
    centre, half = int(generator.integers(length)), int(length * share / 2)
    return max(0, centre - half), min(length, centre + half)


def _check(alpha: float, probability: float) -> None:
    if alpha <= 0:
        raise ConfigError(f"data.mix.alpha must be above 0, not {alpha}")
    if not 0 <= probability <= 1:
        raise ConfigError(f"data.mix.probability must be between 0 and 1, not {probability}")
