"""Labelled videos and lists of them, as plain data."""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nlnet.data.decoders import unreadable
from nlnet.errors import DataError

Label = int | tuple[int, ...]  # the one class of a video, or all of its classes, in order, possibly none


@dataclass(frozen=True)
class Action:
    """One class of a video, and when it is seen."""

    label: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Video:
    """One labelled video."""

    path: str  # absolute
    label: Label
    name: str  # as the list writes it, or relative to the root
    actions: tuple[Action, ...] = ()  # where training clips are to have the classes of their own seconds only

    def label_between(self, first_s: float, last_s: float) -> Label:
        """The classes seen between two times; those of the whole video where it has no timed ``actions``."""
        if not self.actions:
            return self.label
        seen = {action.label for action in self.actions if action.start_s <= last_s and first_s <= action.end_s}
        return tuple(sorted(seen))


@dataclass(frozen=True)
class VideoList:
    """The videos of one split."""

    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    source: str  # the list file or folder

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def multi_label(self) -> bool:
        """Whether a video may show several classes, or none."""
        return any(isinstance(video.label, tuple) for video in self.videos)

    def class_names(self, label: Label) -> str:
        """The classes of a label, for people: ``walk``, ``sit, wave``, ``none``."""
        if isinstance(label, int):
            return self.classes[label]
        return ", ".join(self.classes[each] for each in label) or "none"

    def digest(self) -> str:
        """SHA-256 of the names, labels and classes, not of where they lie: equal lists on two machines agree."""
        timed = [[each.label, each.start_s, each.end_s] for video in self.videos for each in video.actions]
        content = [
            list(self.classes),
            [[video.name, video.label] for video in self.videos],
            *([timed] if timed else []),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Annotations:
    """The training and the validation videos, of the same classes."""

    train: VideoList
    val: VideoList

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, by label."""
        return self.train.classes


@dataclass(frozen=True)
class Entry:
    """A video, and the line that names it."""

    where: str  # FILE:LINE
    video: Video


def assemble(
    train: Sequence[Entry], val: Sequence[Entry], *, classes: Sequence[str], sources: tuple[str, str]
) -> Annotations:
    """Entries of the two splits, read from the files or folders ``sources`` -> Annotations.

    Raises:
        DataError: a split is empty, or a file is named twice, in one split or in both.
    """
    seen: dict[str, str] = {}
    for entries, source in zip((train, val), sources, strict=True):
        if not entries:
            raise DataError(f"{source}: names no videos; is it the whole file?")
        for entry in entries:
            if entry.video.path in seen:
                raise DataError(
                    f"{entry.where}: {entry.video.name} is the same file as that of {seen[entry.video.path]}; "
                    "remove one of the two lines"
                )
            seen[entry.video.path] = entry.where
    training, validation = (
        VideoList(tuple(entry.video for entry in entries), tuple(classes), source)
        for entries, source in zip((train, val), sources, strict=True)
    )
    return Annotations(training, validation)


def check_num_classes(source: str, found: int, expected: int | None) -> None:
    """Refuses annotations of another number of classes than the data set has; None expects nothing.

    Labels are positions in the list of classes, so that with one class missing most labels would be others.
    """
    if expected is not None and found != expected:
        raise DataError(
            f"{source}: {found} classes where this data set has {expected}; take the whole annotation files, or set "
            "data.annotations.num_classes=null for a part of the data set or another version"
        )


def find_missing(videos: VideoList, *, unreadable: Callable[[str], str | None] = unreadable) -> list[tuple[Video, str]]:
    """The videos whose file is missing or empty, each with the reason. Looks at directory entries only.

    ``unreadable`` says why there can be no video at a path: that of the decoder, where videos are not files.
    """
    blocks = [videos.videos[first : first + 256] for first in range(0, len(videos), 256)]
    # Threads, because a network file system answers one question in milliseconds but many at once.
    with ThreadPoolExecutor(max_workers=16) as pool:
        reasons = pool.map(lambda block: [(video, unreadable(video.path)) for video in block], blocks)
        return [(video, reason) for block in reasons for video, reason in block if reason is not None]
