"""Clip placement: which frames a clip of a video has. One class for each rule in use, for tests and for training.

A placement for tests is called with what is known of the video, the number of clips, and the frames and the stride of a
clip -> one tuple of frame indices per clip. Numbers: N frames of the video, n clips, clip j, T frames of a clip, frame
k, stride s. Sources are named by file: "the authors" are video-nonlocal-net.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from nlnet.data.decoders import VideoInfo
from nlnet.data.sampling import random_clip, uniform_clips
from nlnet.errors import ConfigError

Clips = list[tuple[int, ...]]
Placement = Callable[[VideoInfo, int, int, int], Clips]  # video, clips, frames, stride
Short = Callable[[int, int], int]  # index, N -> an index that exists

_TIME_STAMP_ERROR = 0.001  # seconds: Matroska, for example, rounds time stamps to a millisecond


def loop(index: int, num_frames: int) -> int:
    """Past its end a video starts again from its beginning."""
    return index % num_frames


def clamp(index: int, num_frames: int) -> int:
    """Past its end a video stands still at its last frame."""
    return min(index, num_frames - 1)


@dataclass(frozen=True)
class Ends:
    """nlnet's own: clip j starts at floor(j L / (n - 1)), with L = max(0, N - T s); see ``uniform_clips``."""

    short: Short = loop

    def __call__(self, info: VideoInfo, clips: int, frames: int, stride: int) -> Clips:
        windows = uniform_clips(max(info.num_frames, frames * stride), clips=clips, frames=frames, stride=stride)
        return [tuple(self.short(index, info.num_frames) for index in window) for window in windows]


@dataclass(frozen=True)
class Authors:
    """Clip j starts at floor(j N / n), whatever the length of a clip; frames past the end are those of the beginning.

    So the last clips of a test look at the end and at the beginning of the video
    (caffe2_customized_ops/video/customized_video_io.cc).
    """

    def __call__(self, info: VideoInfo, clips: int, frames: int, stride: int) -> Clips:
        starts = [j * info.num_frames // clips for j in range(clips)]
        return [tuple((start + k * stride) % info.num_frames for k in range(frames)) for start in starts]


@dataclass(frozen=True)
class SlowFast:
    """Clip j covers the T s frames from j D / n on, with D = max(0, N - T s), and takes T of them at equal distances.

    Both ends of the clip are among them, so that the step is (T s - 1) / (T - 1): for 8 x 8 the frames 0, 9 … 63, not
    0, 8 … 56. All is in fractions, rounded down at the end. The last clip ends before the video does. With
    ``frames_per_second`` a clip covers as much time as T s frames at that rate; a video that does not say its own rate
    is taken to have it. ``spread_to_end`` places the clips at j floor(D / (n - 1)) instead, the first one only where
    n = 1 (its option USE_OFFSET_SAMPLING). (slowfast/datasets/decoder.py; a reader that seeks starts at the next whole
    frame.)
    """

    frames_per_second: float | None = 30
    short: Short = clamp
    spread_to_end: bool = False

    def __post_init__(self) -> None:
        _check_rate(self.frames_per_second)

    def __call__(self, info: VideoInfo, clips: int, frames: int, stride: int) -> Clips:
        span = _span(info, frames * stride, self.frames_per_second)
        free = max(Fraction(0), info.num_frames - span)
        if self.spread_to_end:
            starts = [Fraction(j * (free // max(1, clips - 1))) for j in range(clips)]
        else:
            starts = [free * j / clips for j in range(clips)]
        return [_spread(start, span, frames, info.num_frames, self.short) for start in starts]


@dataclass(frozen=True)
class MMAction2:
    """Clip j starts at j M / (n - 1), rounded, with M = max(0, N - (T - 1) s - 1); a single one at floor(M / 2).

    A half rounds to the even number. Unlike ``Ends`` it does not reserve s - 1 frames behind the last one
    (SampleFrames of mmaction/datasets/transforms/loading.py).
    """

    short: Short = loop

    def __call__(self, info: VideoInfo, clips: int, frames: int, stride: int) -> Clips:
        last = max(0, info.num_frames - (frames - 1) * stride - 1)
        starts = [last // 2] if clips == 1 else [round(Fraction(j * last, clips - 1)) for j in range(clips)]
        return [tuple(self.short(start + k * stride, info.num_frames) for k in range(frames)) for start in starts]


@dataclass(frozen=True)
class MMAction2Segments:
    """One clip over the whole video: frame k at k (N - 1) / (T - 1), rounded as ``MMAction2`` does; no stride.

    (SampleFrames with clips of one frame, as its TSM recipes test.)
    """

    def __call__(self, info: VideoInfo, clips: int, frames: int, stride: int) -> Clips:
        if clips != 1:
            raise ConfigError(f"data.views.clips={clips}: this placement has one clip of the whole video; set it to 1")
        return [tuple(index for (index,) in MMAction2()(info, frames, 1, 1))]


@dataclass(frozen=True)
class GluonCV:
    """Every s-th frame is kept, the last of these repeated until there are T; a clip is T of the M kept in a row.

    Clip j starts at the kept frame floor(j (M - T) / (n - 1)); a single clip is the first one. (VideoClsDataset of
    gluoncv/torch/data/video_cls/dataset_classification.py.)
    """

    def __call__(self, info: VideoInfo, clips: int, frames: int, stride: int) -> Clips:
        kept = list(range(0, info.num_frames, stride))
        kept += kept[-1:] * (frames - len(kept))
        starts = [j * (len(kept) - frames) // max(1, clips - 1) for j in range(clips)]
        return [tuple(kept[start : start + frames]) for start in starts]


@dataclass(frozen=True)
class TSMDense:
    """Clips of ``window`` frames, of which T are taken at stride window // T; the stride of the clip does not count.

    Clip j starts at floor(j max(0, N - window) / (n - 1)); frames past the end are those of the beginning (dense
    sampling of ops/dataset.py).
    """

    window: int = 64

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"data.views.placement.window must be at least 1, not {self.window}")

    def __call__(self, info: VideoInfo, clips: int, frames: int, stride: int) -> Clips:
        if frames > self.window:
            raise ConfigError(f"data.views.placement.window={self.window} is shorter than the clip of {frames} frames")
        step = self.window // frames
        last = max(0, info.num_frames - self.window)
        starts = [j * last // max(1, clips - 1) for j in range(clips)]
        return [tuple((start + k * step) % info.num_frames for k in range(frames)) for start in starts]


@dataclass(frozen=True)
class AtRate:
    """Another placement, in a video resampled to ``frames_per_second``: frame i of that is the one shown at its time.

    By the time stamps of the file where it has any, so that a clip of a video of variable frame rate covers the same
    time too; else frame floor(i r / frames_per_second) of a video of rate r. Videos that tell neither stay as they are.
    """

    placement: Placement
    frames_per_second: float = 30

    def __post_init__(self) -> None:
        _check_rate(self.frames_per_second)

    def __call__(self, info: VideoInfo, clips: int, frames: int, stride: int) -> Clips:
        resampled, shown = _resampled(info, self.frames_per_second)
        placed = self.placement(resampled, clips, frames, stride)
        return [tuple(shown(index) for index in clip) for clip in placed]


@dataclass(frozen=True)
class RandomClip:
    """For training, nlnet's own and the authors': a whole start, frames ``stride`` apart; see ``random_clip``."""

    def __call__(self, info: VideoInfo, frames: int, stride: int, generator: np.random.Generator) -> tuple[int, ...]:
        return random_clip(info.num_frames, frames=frames, stride=stride, generator=generator)


@dataclass(frozen=True)
class ClipAtRate:
    """For training: another placement, in a video resampled to ``frames_per_second`` as ``AtRate`` does it."""

    placement: Callable[[VideoInfo, int, int, np.random.Generator], tuple[int, ...]]
    frames_per_second: float = 30

    def __post_init__(self) -> None:
        _check_rate(self.frames_per_second)

    def __call__(self, info: VideoInfo, frames: int, stride: int, generator: np.random.Generator) -> tuple[int, ...]:
        resampled, shown = _resampled(info, self.frames_per_second)
        return tuple(shown(index) for index in self.placement(resampled, frames, stride, generator))


@dataclass(frozen=True)
class SlowFastClip:
    """For training, as ``SlowFast``: any start, also a fraction, uniform from 0 to D (slowfast/datasets/decoder.py)."""

    frames_per_second: float | None = 30
    short: Short = clamp

    def __post_init__(self) -> None:
        _check_rate(self.frames_per_second)

    def __call__(self, info: VideoInfo, frames: int, stride: int, generator: np.random.Generator) -> tuple[int, ...]:
        span = _span(info, frames * stride, self.frames_per_second)
        start = Fraction(generator.random()) * max(Fraction(0), info.num_frames - span)
        return _spread(start, span, frames, info.num_frames, self.short)


def _resampled(info: VideoInfo, frames_per_second: float) -> tuple[VideoInfo, Callable[[int], int]]:
    """The video at another rate, and which of its own frames is shown as frame i of that."""
    end = info.seconds(info.num_frames)
    if not end:
        return info, lambda index: index
    last = info.num_frames - 1
    if info.times is not None:
        times = info.times
        num_frames = int((end + _TIME_STAMP_ERROR) * frames_per_second)

        def shown(index: int) -> int:
            now = index / frames_per_second + _TIME_STAMP_ERROR
            return min(int(np.searchsorted(times, now, side="right")) - 1, last)
    else:
        step = Fraction(info.frames_per_second) / Fraction(frames_per_second)
        num_frames = int(info.num_frames / step)

        def shown(index: int) -> int:
            return min(int(index * step), last)

    resampled = replace(info, num_frames=max(1, num_frames), frames_per_second=float(frames_per_second), times=None)
    return resampled, shown


def _span(info: VideoInfo, frames: int, frames_per_second: float | None) -> Fraction:
    """How many frames of the video last as long as ``frames`` at this rate."""
    if frames_per_second is None or not info.frames_per_second:
        return Fraction(frames)
    return frames * Fraction(info.frames_per_second) / Fraction(frames_per_second)


def _spread(start: Fraction, span: Fraction, frames: int, num_frames: int, short: Short) -> tuple[int, ...]:
    """``frames`` indices from ``start`` to ``start + span - 1``, both included, rounded down."""
    step = (span - 1) / max(1, frames - 1)
    return tuple(short(max(0, int(start + k * step)), num_frames) for k in range(frames))


def _check_rate(frames_per_second: float | None) -> None:
    if frames_per_second is not None and frames_per_second <= 0:
        raise ConfigError(
            f"frames_per_second={frames_per_second} of a placement must be positive, or null for the file's"
        )
