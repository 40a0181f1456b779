"""Which videos an epoch has, and in which order: each rule is a function of the list and of the epoch's generator.

A rule is called with the list and a generator -> as many indices as the list has videos. ``nlnet.data.sampling.Order``
makes it a function of (seed, sample number).
"""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nlnet.data.annotations import Label, VideoList
from nlnet.data.decoders.shards import shard_of
from nlnet.errors import ConfigError

Indices = npt.NDArray[np.int64]


class EpochOrder(Protocol):
    """A rule."""

    def __call__(self, videos: VideoList, generator: np.random.Generator) -> Indices: ...


@dataclass(frozen=True)
class Shuffled:
    """Each video once, in random order."""

    def __call__(self, videos: VideoList, generator: np.random.Generator) -> Indices:
        return generator.permutation(len(videos))


@dataclass(frozen=True)
class Balanced:
    """Rare classes more often, for long-tailed sets: an epoch of N samples has N n^(1 - power) / Z of a class of n.

    Z is the sum of n^(1 - power) over the classes. With power 1 all classes come equally often, with 0.5 in proportion
    to the square root of their videos, with 0 as in the list. The number of a class is that share rounded up or down,
    at random so that its mean is the share. Within a class all videos come equally often, or once more: those of a
    frequent class, of which an epoch has fewer than there are, are drawn without repeats, anew in each epoch.

    A video with several labels is of the class of them that has the fewest videos; those without any are a class.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.power <= 1:
            raise ConfigError(f"data.order.power must be between 0 (as in the list) and 1 (balanced), not {self.power}")

    def __call__(self, videos: VideoList, generator: np.random.Generator) -> Indices:
        members = _by_class(videos)
        shares = np.array([len(of_class) for of_class in members]) ** (1 - self.power)
        # Systematic sampling: N points, one apart, from a random start on; each class has an interval of its share.
        ends = np.floor(np.cumsum(shares) / shares.sum() * len(videos) + generator.random()).astype(np.int64)
        ends[-1] = len(videos)  # whatever the rounding of the sum
        counts = np.diff(ends, prepend=0)
        chosen = [_in_turn(of_class, count, generator) for of_class, count in zip(members, counts, strict=True)]
        return generator.permutation(np.concatenate(chosen))


@dataclass(frozen=True)
class ShardBuffer:
    """Shard after shard, each from its beginning, through a buffer from which the next video is drawn at random.

    The shards are in random order. The buffer holds the next ``buffer`` videos; each one drawn makes room for the one
    that follows, across the ends of shards. So an epoch has each video once, and the processes of a run read the shards
    together from front to back, no more than ``buffer`` videos ahead of where they are.
    """

    buffer: int = 1000

    def __post_init__(self) -> None:
        if self.buffer < 1:
            raise ConfigError(f"data.order.buffer must be at least 1, not {self.buffer}")

    def __call__(self, videos: VideoList, generator: np.random.Generator) -> Indices:
        shards: dict[str, list[int]] = {}
        for index, video in enumerate(videos.videos):
            shards.setdefault(shard_of(video.path), []).append(index)
        parts = list(shards.values())
        stream = [index for number in generator.permutation(len(parts)) for index in parts[number]]
        held, rest = stream[: self.buffer], stream[self.buffer :]
        drawn = []
        for place, following in zip(generator.integers(len(held), size=len(rest)).tolist(), rest, strict=True):
            drawn.append(held[place])
            held[place] = following
        return np.array(drawn + [held[place] for place in generator.permutation(len(held))], np.int64)


def _by_class(videos: VideoList) -> list[Indices]:
    """The indices of the videos of each class that occurs."""
    labels = [_as_tuple(video.label) for video in videos.videos]
    sizes = Counter(label for several in labels for label in several)
    members: dict[int, list[int]] = {}
    for index, several in enumerate(labels):
        rarest = min(several, key=lambda label: (sizes[label], label), default=-1)
        members.setdefault(rarest, []).append(index)
    return [np.array(members[label], np.int64) for label in sorted(members)]


def _as_tuple(label: Label) -> tuple[int, ...]:
    return (label,) if isinstance(label, int) else label


def _in_turn(of_class: Indices, count: int, generator: np.random.Generator) -> Indices:
    """``count`` of these videos: all of them as often as that goes, and a random part of them once more."""
    whole, rest = divmod(int(count), len(of_class))
    return np.concatenate([np.tile(of_class, whole), generator.permutation(of_class)[:rest]])
