"""From a decoded frame to the pixels of a view: only the box is converted to RGB, at the smaller of its two sizes.

Where a view shrinks its box, swscale scales while it converts; where it enlarges it, the box is converted as it is and
the RGB pixels are scaled. Either way no more pixels are converted than needed, and no whole frame unless it is wanted.
"""

from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import VideoReformatter

from nlnet.data.decoders import Frames

_VERSION = int(av.__version__.split(".")[0])
# From 17 on, swscale starts as many threads as there are cores; the workers of the loader use these already.
_CONVERT_OPTIONS: dict[str, Any] = {"threads": 1} if _VERSION >= 17 else {}

Orientation = tuple[bool, bool, bool]  # transpose, then turn upside down, then mirror
Box = tuple[int, int, int, int]  # top, left, height, width


class FrameCutter:
    """Cuts the same box out of frame after frame: an av.VideoFrame as stored -> RGB [h, w, 3].

    Args:
        stored: height and width of the frames; those of another size are scaled to it first.
        box: in pixels of the stored frame.
        size: height and width of what comes out; None for those of the box.
    """

    def __init__(self, stored: tuple[int, int], box: Box, size: tuple[int, int] | None = None) -> None:
        self.stored = stored
        self.box = box
        self.size = size or box[2:]
        self._reformatter: Any = VideoReformatter()
        self._resizer: Any = None
        self._graph: Any = None
        self._format = ""
        self._rest = (0, 0)

    def __call__(self, frame: Any, out: Frames) -> None:
        """Write the pixels of one frame to ``out``, uint8 [h, w, 3]."""
        if (frame.height, frame.width) != self.stored:
            self._resizer = self._resizer or VideoReformatter()
            frame = self._resizer.reformat(frame, width=self.stored[1], height=self.stored[0], **_CONVERT_OPTIONS)
        scaled = self.size != self.box[2:]
        if self.box != (0, 0, *self.stored):
            if self._format != frame.format.name:
                self._graph, self._rest = self._crop(frame, exact=scaled)
                self._format = frame.format.name
            self._graph.push(frame)
            frame = self._graph.pull()
        height, width = self.size if scaled else (frame.height, frame.width)
        converted = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation="BILINEAR", **_CONVERT_OPTIONS
        )
        plane = converted.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        top, left = self._rest
        pixels = rows[top : top + self.size[0], left * 3 : (left + self.size[1]) * 3]
        out[...] = pixels.reshape(*self.size, 3)

    def _crop(self, frame: Any, *, exact: bool) -> tuple[Any, tuple[int, int]]:
        """A filter that cuts the box, and how many rows and columns too many it leaves in front.

        Without ``exact`` the box is widened to whole blocks of pixels that share their colour, so that conversion gives
        the same values as that of the whole frame.
        """
        top, left, height, width = self.box
        above = before = 0
        if not exact:
            block_height, block_width = (16 // size for size in _chroma_of_16(frame.format))
            above, before = top % block_height, left % block_width
            height = min(-(-(height + above) // block_height) * block_height, self.stored[0] - top + above)
            width = min(-(-(width + before) // block_width) * block_width, self.stored[1] - left + before)
        graph = av.filter.Graph()
        if hasattr(graph, "threads"):  # from PyAV 16 on
            graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
        )
        crop = graph.add("crop", f"{width}:{height}:{left - before}:{top - above}:exact=1")
        graph.link_nodes(source, crop, graph.add("buffersink")).configure()
        return graph, (above, before)


def _chroma_of_16(pixel_format: Any) -> tuple[int, int]:
    """Rows and columns of colour for 16 x 16 pixels."""
    return pixel_format.chroma_height(16) or 16, pixel_format.chroma_width(16) or 16


class ViewCutter:
    """The clip of one view, frame by frame.

    Args:
        stored: height and width of the frames.
        orientation: how they are shown; the box of a view is in pixels as shown.
        view: what to read.
    """

    def __init__(self, stored: tuple[int, int], orientation: Orientation, view: Any) -> None:
        self._orientation = orientation
        self._flip = view.flip
        box = _stored_box(view.box, stored, orientation)
        self._size = view.size[::-1] if orientation[0] else view.size
        shrinks = self._size[0] * self._size[1] < box[2] * box[3]
        self._cut = FrameCutter(stored, box, self._size if shrinks else None)
        self._positions: dict[int, list[int]] = {}
        for position, index in enumerate(view.indices):
            self._positions.setdefault(index, []).append(position)
        self._clip = np.empty((len(view.indices), *self._cut.size, 3), np.uint8)

    def take(self, index: int, frame: Any) -> None:
        """Frame ``index`` of the video, if the view has it; a second time replaces what the first one gave."""
        positions = self._positions.get(index, [])
        for number, position in enumerate(positions):
            if number == 0:
                self._cut(frame, self._clip[position])
            else:
                self._clip[position] = self._clip[positions[0]]

    def finish(self) -> Frames:
        """The clip, as shown, scaled and mirrored -> uint8 [T, h, w, 3], contiguous."""
        clip_TCHW = torch.from_numpy(self._clip).permute(0, 3, 1, 2)
        if tuple(clip_TCHW.shape[2:]) != tuple(self._size):
            clip_TCHW = F.interpolate(clip_TCHW, size=self._size, mode="bilinear", antialias=True)
        transpose, upside_down, mirror = self._orientation
        if transpose:
            clip_TCHW = clip_TCHW.mT
        turned = [axis for axis, turns in ((2, upside_down), (3, mirror != self._flip)) if turns]
        if turned:  # of channels last, which torch mirrors many times faster than numpy
            clip_TCHW = clip_TCHW.flip(turned)
        return np.ascontiguousarray(clip_TCHW.permute(0, 2, 3, 1).numpy())


def oriented(frames: Frames, orientation: Orientation) -> Frames:
    """Frames as stored -> as shown."""
    transpose, upside_down, mirror = orientation
    if transpose:
        frames = frames.transpose(0, 2, 1, 3)
    if upside_down:
        frames = frames[:, ::-1]
    if mirror:
        frames = frames[:, :, ::-1]
    return frames


def _stored_box(box: Box, stored: tuple[int, int], orientation: Orientation) -> Box:
    """A box of the frame as shown -> of the frame as stored."""
    top, left, height, width = box
    transpose, upside_down, mirror = orientation
    shown_height, shown_width = stored[::-1] if transpose else stored
    if upside_down:
        top = shown_height - top - height
    if mirror:
        left = shown_width - left - width
    return (left, top, width, height) if transpose else (top, left, height, width)
