"""Sparse sampling (TSN, arXiv 1608.00859): a video is cut into equal segments, and a clip has a frame or a few of each.

For actions that are a whole video long, such as those of Something-Something. Both classes are clip placements, one for
training and one for tests. Numbers: N frames of the video, n segments, k a segment, s stride.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nlnet.data.decoders import VideoInfo
from nlnet.errors import ConfigError


def segment_starts(num_frames: int, *, segments: int, span: int) -> list[range]:
    """Where ``span`` frames in a row may begin, for each segment.

    Segment k has the frames floor(k N / n) to floor((k + 1) N / n) - 1, and at least the first of these, so that in a
    video of fewer frames than segments some come twice. The span lies within its segment; where it is longer, it begins
    with it.
    """
    if min(num_frames, segments, span) < 1:
        raise ValueError(f"num_frames, segments and span must be positive, not {num_frames}, {segments}, {span}")
    bounds = [k * num_frames // segments for k in range(segments + 1)]
    return [range(start, max(start, end - span) + 1) for start, end in pairwise(bounds)]


@dataclass(frozen=True)
class RandomSegments:
    """For training: from each segment ``frames / num_segments`` frames, ``stride`` apart, from a random start.

    The start is uniform over those of ``segment_starts``. Frames past the end of the video are those of its beginning.

    Args:
        num_segments: None for as many as the clip has frames: one of each, whatever the stride.
    """

    num_segments: int | None = None

    def __call__(self, info: VideoInfo, frames: int, stride: int, generator: np.random.Generator) -> tuple[int, ...]:
        segments, each = _divide(frames, self.num_segments)
        starts = segment_starts(info.num_frames, segments=segments, span=(each - 1) * stride + 1)
        drawn = [int(generator.integers(possible.start, possible.stop)) for possible in starts]
        return _runs(drawn, each, stride, info.num_frames)


@dataclass(frozen=True)
class CentralSegments:
    """For tests: as ``RandomSegments``, with clip j of c at number floor((2 j + 1) S / (2 c)) of the S possible starts.

    A single clip so has the middle of each segment, and several are spread evenly over it.
    """

    num_segments: int | None = None

    def __call__(self, info: VideoInfo, clips: int, frames: int, stride: int) -> list[tuple[int, ...]]:
        segments, each = _divide(frames, self.num_segments)
        starts = segment_starts(info.num_frames, segments=segments, span=(each - 1) * stride + 1)
        chosen = [[possible[(2 * j + 1) * len(possible) // (2 * clips)] for possible in starts] for j in range(clips)]
        return [_runs(clip, each, stride, info.num_frames) for clip in chosen]


def _divide(frames: int, num_segments: int | None) -> tuple[int, int]:
    """Segments, and frames of each."""
    segments = frames if num_segments is None else num_segments
    if segments < 1 or frames % segments:
        raise ConfigError(
            f"num_segments={segments} must divide the {frames} frames of a clip; or null, one frame of each"
        )
    return segments, frames // segments


def _runs(starts: list[int], each: int, stride: int, num_frames: int) -> tuple[int, ...]:
    return tuple((start + position * stride) % num_frames for start in starts for position in range(each))
