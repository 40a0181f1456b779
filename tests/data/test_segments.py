"""Segments cover a video without gap or overlap; clips take from each what the rule says."""

import numpy as np
import pytest

from nlnet.data.crops import Three
from nlnet.data.decoders import VideoInfo
from nlnet.data.sampling import sample_generator
from nlnet.data.segments import CentralSegments, RandomSegments, segment_starts
from nlnet.data.transforms import EvalViews, TrainView
from nlnet.errors import ConfigError

LENGTHS = [1, 2, 3, 7, 8, 9, 50, 101]


def info(num_frames: int) -> VideoInfo:
    return VideoInfo(num_frames, 8, 8, 12.0)


def segment_of(frame: int, num_frames: int, segments: int) -> list[int]:
    """The segments that a frame belongs to, by walking through the video."""
    found = []
    for k in range(segments):
        frames = [i for i in range(num_frames) if k * num_frames // segments <= i < (k + 1) * num_frames // segments]
        if frame in (frames or [k * num_frames // segments]):
            found.append(k)
    return found


@pytest.mark.parametrize("num_frames", LENGTHS)
@pytest.mark.parametrize("segments", [1, 3, 8])
def test_single_frames_are_those_of_their_segment(num_frames: int, segments: int) -> None:
    starts = segment_starts(num_frames, segments=segments, span=1)
    for k, possible in enumerate(starts):
        assert list(possible) == [i for i in range(num_frames) if k in segment_of(i, num_frames, segments)]
    if num_frames >= segments:
        assert sorted(i for possible in starts for i in possible) == list(range(num_frames))


@pytest.mark.parametrize("span", [2, 5, 40])
def test_longer_spans_stay_in_their_segment_where_they_fit(span: int) -> None:
    single = segment_starts(101, segments=8, span=1)
    for frames, possible in zip(single, segment_starts(101, segments=8, span=span), strict=True):
        fitting = [start for start in frames if start + span - 1 in frames]
        assert list(possible) == (fitting or [frames[0]])


def test_segments_of_known_videos() -> None:
    assert [list(each) for each in segment_starts(10, segments=3, span=1)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert [list(each) for each in segment_starts(2, segments=4, span=1)] == [[0], [0], [1], [1]]
    assert CentralSegments()(info(10), 1, 3, 1) == [(1, 4, 8)]
    assert CentralSegments()(info(16), 2, 4, 99) == [(1, 5, 9, 13), (3, 7, 11, 15)]
    assert CentralSegments(num_segments=2)(info(20), 1, 4, 2) == [(4, 6, 14, 16)]
    assert CentralSegments(num_segments=1)(info(3), 1, 5, 1) == [(0, 1, 2, 0, 1)]


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_training_draws_each_frame_of_a_segment_equally_often(num_frames: int) -> None:
    segments, draws = 4, 1500
    drawn = np.array([RandomSegments()(info(num_frames), segments, 3, sample_generator(n)) for n in range(draws)])
    for k, possible in enumerate(segment_starts(num_frames, segments=segments, span=1)):
        counts = np.array([(drawn[:, k] == frame).sum() for frame in possible])
        assert counts.sum() == draws
        mean = draws / len(possible)
        assert (abs(counts - mean) < 5 * mean**0.5 + 1).all()


def test_runs_of_frames_keep_their_stride_and_the_draw_is_that_of_the_generator() -> None:
    for number in range(50):
        clip = RandomSegments(num_segments=4)(info(90), 12, 2, sample_generator(0, number))
        assert clip == RandomSegments(num_segments=4)(info(90), 12, 2, sample_generator(0, number))
        runs = np.array(clip).reshape(4, 3)
        assert (np.diff(runs, axis=1) == 2).all()
        for k, run in enumerate(runs):
            assert {tuple(segment_of(int(frame), 90, 4)) for frame in run} == {(k,)}


def test_segments_are_placements_of_views() -> None:
    video = info(64)
    view = TrainView(frames=8, stride=5, placement=RandomSegments(), short_side=(8, 9), crop=8)
    drawn = view(video, sample_generator(0, 3)).indices
    assert [frame // 8 for frame in drawn] == list(range(8))
    views = EvalViews(frames=8, stride=5, clips=2, placement=CentralSegments(), crops=Three(8, 8), source="segments")
    assert views.name == "segments_2x3"
    assert [each.indices[:2] for each in views(video)] == [(2, 10)] * 3 + [(6, 14)] * 3


@pytest.mark.parametrize("num_segments", [0, 3, 16])
def test_segments_that_do_not_divide_the_clip_are_refused(num_segments: int) -> None:
    with pytest.raises(ConfigError, match=f"num_segments={num_segments} must divide the 8 frames"):
        RandomSegments(num_segments)(info(50), 8, 1, sample_generator(0))
    with pytest.raises(ConfigError, match=f"num_segments={num_segments} must divide the 8 frames"):
        CentralSegments(num_segments)(info(50), 1, 8, 1)
