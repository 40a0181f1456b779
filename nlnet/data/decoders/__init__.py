"""What every video decoder promises, whatever library is behind it. One file beside this one per backend.

Frame ``i`` is the i-th frame of a full decode from the beginning, in display order, with the rotation that the file
asks for applied. Every failure is a ``VideoError`` that names the file.

Axes: T time, H height, W width of the source, h and w of the output, 3 channels in the order red, green, blue.
"""

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from nlnet.errors import VideoError

if TYPE_CHECKING:
    from nlnet.data.transforms import View

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video once it is open."""

    num_frames: int  # more than decode where the file is damaged; indices past the last frame then give the last
    height: int  # as displayed, rotation applied
    width: int
    frames_per_second: float  # on average; 0 where the file does not say
    # [num_frames] when each frame is shown, in seconds after the first one; None where the file does not say
    times: npt.NDArray[np.float64] | None = field(default=None, compare=False, repr=False)

    def seconds(self, index: int) -> float | None:
        """When frame ``index`` is shown, in seconds after the first one; the end of the video for ``num_frames``.

        By the time stamps of the file, else by its average rate; None where it says neither.
        """
        if self.times is not None and index < len(self.times):
            return float(self.times[index])
        if self.times is not None and len(self.times) > 1:  # the last frame is shown as long as the mean one
            return float(self.times[-1]) * (1 + (index - len(self.times) + 1) / (len(self.times) - 1))
        return index / self.frames_per_second if self.frames_per_second > 0 else None


class VideoReader(ABC):
    """One open video. Not to be shared between threads or processes: open it where it is read."""

    path: str
    info: VideoInfo

    @abstractmethod
    def _decode(self, indices: list[int]) -> Frames:
        """Whole frames at these indices -> [T, H, W, 3]. The indices are sorted, unique and in range."""

    @abstractmethod
    def close(self) -> None:
        """Give up the file. Safe to call twice."""

    def frames(self, indices: Sequence[int]) -> Frames:
        """Whole frames, in the order asked for, with repeats -> uint8 [T, H, W, 3]; each is decoded once."""
        unique = self._checked(indices)
        frames = self._decode(unique)
        positions = np.searchsorted(unique, np.asarray(indices))
        in_order = len(positions) == len(unique) and bool((np.diff(positions) > 0).all())
        return np.ascontiguousarray(frames if in_order else frames[positions])

    def _checked(self, indices: Sequence[int]) -> list[int]:
        """Sorted and unique; IndexError unless all are in range."""
        unique: list[int] = np.unique(np.asarray(indices, dtype=np.int64)).tolist()
        if not unique or unique[0] < 0 or unique[-1] >= self.info.num_frames:
            raise IndexError(f"{self.path}: frames {list(indices)} of a video of {self.info.num_frames}")
        return unique

    def read(self, view: "View") -> Frames:
        """The frames, box, size and mirroring of ``view`` -> uint8 [T, h, w, 3], contiguous.

        Scaling is bilinear, antialiased where it shrinks. A backend that can crop and scale while it converts may
        override this.
        """
        return _cut(self.frames(view.indices), view)

    def read_all(self, views: Sequence["View"], *, max_bytes: int = 1 << 29) -> list[Frames]:
        """Several views -> one uint8 [T, h, w, 3] each, as ``read`` would give them.

        The clips of a test overlap, and its crops share their frames: each frame is decoded once, for as many views at
        a time as have no more than ``max_bytes`` of whole frames (a single view may have more).
        """
        max_frames = max_bytes // (self.info.height * self.info.width * 3)
        clips: list[Frames] = []
        while len(clips) < len(views):
            group: list[View] = []
            wanted: set[int] = set()
            for view in views[len(clips) :]:
                if group and len(wanted.union(view.indices)) > max_frames:
                    break
                group.append(view)
                wanted.update(view.indices)
            frames = self.frames(sorted(wanted))
            place = {index: position for position, index in enumerate(sorted(wanted))}
            clips += [_cut(frames[[place[index] for index in view.indices]], view) for view in group]
        return clips

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Decoder(ABC):
    """A way to open videos. Holds settings only, so that it travels to worker processes."""

    def open(self, path: str) -> VideoReader:
        """Open the video at ``path``; VideoError if it cannot give at least one frame."""
        reason = self.unreadable(path)
        if reason is not None:
            raise VideoError(path, reason)
        return self._open(path)

    def unreadable(self, path: str) -> str | None:
        """Why there can be no video at ``path``, without opening it, or None. A decoder around another asks that."""
        inner = getattr(self, "decoder", None)
        return inner.unreadable(path) if isinstance(inner, Decoder) else unreadable(path)

    @abstractmethod
    def _open(self, path: str) -> VideoReader:
        """Open an existing, non-empty file."""


def unreadable(path: str) -> str | None:
    """Why ``path`` cannot be a video, from its directory entry alone, or None."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "no such file"
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    if status.st_size == 0:
        return "the file is empty (0 bytes)"
    return None


def _cut(frames: Frames, view: "View") -> Frames:
    """Crop, scale and mirror the whole frames of a view: [T, H, W, 3] -> [T, h, w, 3], contiguous."""
    top, left, height, width = view.box
    clip = frames[:, top : top + height, left : left + width]
    if (height, width) != view.size:
        clip_TCHW = torch.from_numpy(clip).permute(0, 3, 1, 2)
        clip_TCHW = F.interpolate(clip_TCHW, size=view.size, mode="bilinear", antialias=True)
        clip = clip_TCHW.permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(clip[:, :, ::-1] if view.flip else clip)
