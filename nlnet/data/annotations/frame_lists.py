"""SlowFast's frame lists of Charades and others: a line for each frame, videos as folders of pictures."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from nlnet.data.annotations.records import Action, Annotations, Entry, Video, assemble, check_num_classes
from nlnet.data.annotations.text import iterate_lines, read_classes
from nlnet.errors import ConfigError, DataError

# The misspelling is theirs.
HEADER = ("original_vido_id", "video_id", "frame_id", "path", "labels")


def from_frame_lists(
    *,
    root: str,
    train: str = "train.csv",
    val: str = "val.csv",
    frames: str = "",
    classes: str | None = None,
    num_classes: int | None = None,
    frames_per_second: float = 24.0,
) -> Annotations:
    """Lines ``46GP8 0 0 46GP8/46GP8-000001.jpg "77,92"`` below the header, the frames of a video in order.

    A video's path is the folder of its frames, its label the tuple of all classes that some frame has; a training clip
    has the classes of its own frames. Charades' frames are 24 a second.

    Args:
        root: what the other paths are relative to.
        frames: the folder that the paths of the lists start from.
        classes: a file with a class name on each line; None names them class_0 and so on.
        frames_per_second: of the pictures.
    """
    if frames_per_second <= 0:
        raise ConfigError(f"data.annotations.frames_per_second must be positive, not {frames_per_second}")
    sources = os.path.join(root, train), os.path.join(root, val)
    videos = [list(_videos(source)) for source in sources]
    highest = max((label for split in videos for video in split for label in video.runs), default=-1)
    names = [f"class_{label}" for label in range(max(highest + 1, num_classes or 0))]
    if classes is not None:
        names = list(read_classes(os.path.join(root, classes)))
    if highest >= len(names):
        raise DataError(f"{sources[0]}: label {highest}, but there are {len(names)} classes, 0 to {len(names) - 1}")
    check_num_classes(sources[0], len(names), num_classes)
    folder = os.path.abspath(os.path.join(root, frames))
    training, validation = (
        [_entry(video, folder, frames_per_second, timed=timed) for video in split]
        for split, timed in zip(videos, (True, False), strict=True)
    )
    return assemble(training, validation, classes=names, sources=sources)


@dataclass
class _Frames:
    """The lines of one video."""

    where: str  # FILE:LINE of the first
    name: str
    folder: str
    count: int = 0
    runs: dict[int, list[list[int]]] = field(default_factory=dict)  # class -> first and last frame of each run

    def add(self, labels: list[int]) -> None:
        """The next frame."""
        for label in labels:
            runs = self.runs.setdefault(label, [])
            if runs and runs[-1][1] == self.count - 1:
                runs[-1][1] = self.count
            elif not runs or runs[-1][1] != self.count:
                runs.append([self.count, self.count])
        self.count += 1


def _videos(path: str) -> Iterator[_Frames]:
    """The videos of a list, read line by line."""
    lines = iterate_lines(path)
    number, header = next(lines, (1, ""))
    if tuple(header.split()) != HEADER:
        raise DataError(f"{path}:{number}: the header of a frame list is expected: {' '.join(HEADER)}")
    video: _Frames | None = None
    for number, line in lines:
        where = f"{path}:{number}"
        fields = next(csv.reader([line], delimiter=" "))
        if len(fields) != len(HEADER):
            raise DataError(f"{where}: {len(fields)} fields where the header has {len(HEADER)}")
        name, _, _, frame, written = fields
        try:
            labels = [int(label) for label in written.split(",") if label.strip()]
        except ValueError:
            raise DataError(f"{where}: the labels {written!r} are not whole numbers with commas between") from None
        if any(label < 0 for label in labels):
            raise DataError(f"{where}: label {min(labels)} is negative; labels start at 0")
        if video is None or video.name != name:
            if video is not None:
                yield video
            video = _Frames(where, name, os.path.dirname(frame))
        video.add(labels)
    if video is not None:
        yield video


def _entry(video: _Frames, folder: str, rate: float, *, timed: bool) -> Entry:
    """A run of frames i to j is seen from the middle of the one to the middle of the other: no neighbour touches it."""
    actions = tuple(
        Action(label, (first + 0.5) / rate, (last + 0.5) / rate)
        for label, runs in sorted(video.runs.items())
        for first, last in runs
    )
    path = os.path.join(folder, video.folder)
    return Entry(video.where, Video(path, tuple(sorted(video.runs)), video.name, actions if timed else ()))
