"""Exact frames of every clip placement: numbers worked out by hand, and slow restatements of the published rules."""

import math
import pickle
from functools import partial

import numpy as np
import pytest

from nlnet.data.decoders import VideoInfo
from nlnet.data.placement import (
    AtRate,
    Authors,
    Ends,
    GluonCV,
    MMAction2,
    MMAction2Segments,
    Placement,
    RandomClip,
    SlowFast,
    SlowFastClip,
    TSMDense,
    clamp,
    loop,
)
from nlnet.data.sampling import sample_generator, uniform_clips
from nlnet.errors import ConfigError

LENGTHS = [1, 2, 7, 31, 56, 57, 63, 64, 65, 71, 99, 100, 101, 250, 300, 301]


def info(num_frames: int, frames_per_second: float = 30.0) -> VideoInfo:
    return VideoInfo(num_frames, 256, 340, frames_per_second)


def starts(placement: Placement, num_frames: int, *, clips: int = 10, frames: int = 8, stride: int = 8) -> list[int]:
    return [clip[0] for clip in placement(info(num_frames), clips, frames, stride)]


def test_starts_of_ten_clips_of_a_video_of_300_frames() -> None:
    """8 frames of stride 8, 30 frames per second: the published rules, worked out by hand."""
    assert starts(Ends(), 300) == [0, 26, 52, 78, 104, 131, 157, 183, 209, 236]  # floor(j 236 / 9)
    assert starts(Authors(), 300) == [0, 30, 60, 90, 120, 150, 180, 210, 240, 270]
    assert starts(SlowFast(), 300) == [0, 23, 47, 70, 94, 118, 141, 165, 188, 212]  # floor(j 236 / 10)
    assert starts(SlowFast(spread_to_end=True), 300) == [0, 26, 52, 78, 104, 130, 156, 182, 208, 234]  # j floor(236/9)
    assert starts(MMAction2(), 300) == [0, 27, 54, 81, 108, 135, 162, 189, 216, 243]  # j 243 / 9
    assert starts(GluonCV(), 300) == [0, 24, 48, 80, 104, 128, 160, 184, 208, 240]  # 8 floor(j 30 / 9)
    assert starts(TSMDense(), 300) == [0, 26, 52, 78, 104, 131, 157, 183, 209, 236]


def test_frames_of_single_clips() -> None:
    eight = tuple(range(0, 64, 8))
    assert Ends()(info(300), 10, 8, 8)[0] == Authors()(info(300), 10, 8, 8)[0] == eight
    assert SlowFast()(info(300), 10, 8, 8)[0] == (0, 9, 18, 27, 36, 45, 54, 63)
    assert SlowFast()(info(300), 10, 8, 8)[1] == (23, 32, 41, 50, 59, 68, 77, 86)  # 23.6, 32.6, …
    thirty_two = SlowFast()(info(300), 10, 32, 2)[0]
    assert thirty_two[:3] == (0, 2, 4)
    assert thirty_two[-2:] == (60, 63)
    assert Authors()(info(300), 10, 8, 8)[9] == (270, 278, 286, 294, 2, 10, 18, 26)  # wraps to the beginning
    assert MMAction2()(info(300), 10, 8, 8)[9] == (243, 251, 259, 267, 275, 283, 291, 299)
    assert GluonCV()(info(300), 10, 8, 8)[9] == (240, 248, 256, 264, 272, 280, 288, 296)
    assert TSMDense()(info(300), 10, 16, 99)[9] == tuple(range(236, 300, 4))  # 64 // 16, whatever the stride
    assert MMAction2Segments()(info(300), 1, 8, 99) == [(0, 43, 85, 128, 171, 214, 256, 299)]


def test_short_videos() -> None:
    """Twenty frames for a clip of 8 x 8."""
    video = info(20)
    looped = (0, 8, 16, 4, 12, 0, 8, 16)
    assert Ends()(video, 2, 8, 8) == [looped] * 2
    assert Ends(short=clamp)(video, 2, 8, 8) == [(0, 8, 16, 19, 19, 19, 19, 19)] * 2
    assert Authors()(video, 2, 8, 8) == [looped, (10, 18, 6, 14, 2, 10, 18, 6)]
    assert SlowFast()(video, 2, 8, 8) == [(0, 9, 18, 19, 19, 19, 19, 19)] * 2
    assert SlowFast(short=loop)(video, 1, 8, 8) == [(0, 9, 18, 7, 16, 5, 14, 3)]
    assert MMAction2()(video, 2, 8, 8) == [looped] * 2
    assert GluonCV()(video, 2, 8, 8) == [(0, 8, 16, 16, 16, 16, 16, 16)] * 2  # the last of the kept, not of the video
    assert TSMDense()(video, 2, 8, 8) == [looped] * 2
    assert MMAction2Segments()(info(3), 1, 8, 1) == [(0, 0, 1, 1, 1, 1, 2, 2)]


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_ends_is_uniform_clips(num_frames: int) -> None:
    for clips in (1, 2, 10):
        expected = uniform_clips(num_frames, clips=clips, frames=8, stride=8)
        assert Ends()(info(num_frames), clips, 8, 8) == expected


def test_the_authors_floats_are_whole_numbers() -> None:
    """Their start is (int)(float(N) / float(10) * j) % N in single precision."""
    for num_frames in range(1, 2000):
        gap = np.float32(num_frames) / np.float32(10)
        slow = [int(gap * np.float32(j)) % num_frames for j in range(10)]
        assert starts(Authors(), num_frames) == slow, num_frames


@pytest.mark.parametrize("num_frames", LENGTHS)
@pytest.mark.parametrize("rate", [15.0, 25.0, 30.0, 60.0])
@pytest.mark.parametrize(("frames", "stride"), [(8, 8), (32, 2), (1, 8)])
def test_slowfast_is_linspace(num_frames: int, rate: float, frames: int, stride: int) -> None:
    """Its code in floats: the same frames, except where a float falls a hair short of a whole number."""
    span = frames * stride * rate / 30
    free = max(num_frames - span, 0)
    placed = SlowFast()(info(num_frames, rate), 10, frames, stride)
    for j, clip in enumerate(placed):
        start = free * j / 10
        exact = np.linspace(start, start + span - 1, frames) if frames > 1 else np.array([start])
        slow = np.clip(np.floor(exact + 1e-9), 0, num_frames - 1).astype(int)
        assert clip == tuple(slow)


def test_a_rate_that_is_not_known_is_that_of_the_rule() -> None:
    assert SlowFast()(info(300, 0.0), 10, 8, 8) == SlowFast()(info(300, 30.0), 10, 8, 8)
    assert SlowFast(frames_per_second=None)(info(300, 15.0), 10, 8, 8) == SlowFast()(info(300, 30.0), 10, 8, 8)
    # 64 frames at 30 per second are 32 at 15.
    assert SlowFast()(info(300, 15.0), 10, 8, 8)[0] == (0, 4, 8, 13, 17, 22, 26, 31)


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_mmaction2_is_its_numpy(num_frames: int) -> None:
    last = max(num_frames - ((8 - 1) * 8 + 1), 0)
    for clips in (1, 2, 3, 10):
        offsets = np.round(np.arange(clips) * (last / float(clips - 1))) if clips > 1 else np.array([last // 2])
        slow = [[(int(offset) + 8 * k) % num_frames for k in range(8)] for offset in offsets]
        assert MMAction2()(info(num_frames), clips, 8, 8) == [tuple(clip) for clip in slow]


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_gluoncv_is_its_list(num_frames: int) -> None:
    kept = list(range(0, num_frames, 2))
    while len(kept) < 32:
        kept.append(kept[-1])
    slow = []
    for j in range(10):
        first = int(j * max((len(kept) - 32) / (10 - 1), 0) + 1e-9)
        slow.append(tuple(kept[first : first + 32]))
    assert GluonCV()(info(num_frames), 10, 32, 2) == slow


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_tsm_dense_is_its_linspace(num_frames: int) -> None:
    positions = max(1, 1 + num_frames - 64)
    slow = [
        tuple((8 * k + start) % num_frames for k in range(8))
        for start in np.floor(np.linspace(0, positions - 1, num=10) + 1e-9).astype(int).tolist()
    ]
    assert TSMDense()(info(num_frames), 10, 8, 8) == slow


@pytest.mark.parametrize("num_frames", LENGTHS)
@pytest.mark.parametrize("rate", [0.0, 10.0, 29.97, 30.0, 60.0])
def test_every_placement_stays_inside_the_video(num_frames: int, rate: float) -> None:
    placements = [Ends(), Ends(clamp), Authors(), SlowFast(), MMAction2(), GluonCV(), TSMDense(), AtRate(Ends())]
    for placement in (*placements, SlowFast(spread_to_end=True), AtRate(Authors(), 12.5)):
        for clips in (1, 3, 10):
            placed = placement(info(num_frames, rate), clips, 8, 8)
            assert len(placed) == clips
            for clip in placed:
                assert len(clip) == 8
                assert all(0 <= index < num_frames for index in clip)


def test_at_rate_shows_the_frames_of_the_resampled_video() -> None:
    """A video of 60 frames per second seen at 30 has every second frame; one of 15 has every frame twice."""
    assert AtRate(Ends())(info(400, 60.0), 10, 8, 8) == [
        tuple(2 * index for index in clip) for clip in Ends()(info(200), 10, 8, 8)
    ]
    slow = [tuple(index // 2 for index in clip) for clip in Ends()(info(400), 10, 8, 8)]
    assert AtRate(Ends())(info(200, 15.0), 10, 8, 8) == slow
    assert AtRate(Ends())(info(200, 30.0), 10, 8, 8) == Ends()(info(200), 10, 8, 8)
    assert AtRate(Ends())(info(200, 0.0), 10, 8, 8) == Ends()(info(200), 10, 8, 8)
    assert AtRate(Ends(), 7)(info(1, 29.97), 2, 2, 1) == [(0, 0), (0, 0)]


def test_random_clip_is_the_rule_of_sampling() -> None:
    clips = {RandomClip()(info(70), 8, 8, sample_generator(number)) for number in range(200)}
    assert clips == {tuple(range(start, start + 64, 8)) for start in range(7)}


def test_slowfast_training_clips() -> None:
    """Starts are uniform over 0 to N - span, in fractions; the frames those of linspace."""
    drawn = [SlowFastClip()(info(100), 8, 8, sample_generator(number)) for number in range(4000)]
    counts = np.bincount([clip[0] for clip in drawn], minlength=36)
    assert counts.shape == (36,)  # [0, 36)
    assert counts.min() > 111 - 5 * math.sqrt(111)
    assert counts.max() < 111 + 5 * math.sqrt(111)
    for clip in drawn[:100]:
        assert np.diff(clip).tolist() == [9] * 7
    # At 60 frames per second it spans 128 frames: more than there are.
    assert SlowFastClip()(info(100, 60.0), 8, 8, sample_generator(0)) == (0, 18, 36, 54, 72, 90, 99, 99)
    assert SlowFastClip(short=loop)(info(100, 60.0), 8, 8, sample_generator(0)) == (0, 18, 36, 54, 72, 90, 8, 27)
    assert {SlowFastClip()(info(200, 60.0), 8, 8, sample_generator(n))[0] for n in range(2000)} == set(range(72))


def test_placements_travel_to_worker_processes() -> None:
    for placement in (SlowFast(short=partial(clamp)), AtRate(Ends(partial(loop))), TSMDense(32)):
        copy = pickle.loads(pickle.dumps(placement))
        assert copy(info(300), 10, 8, 8) == placement(info(300), 10, 8, 8)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="frames_per_second=0"):
        SlowFast(frames_per_second=0)
    with pytest.raises(ConfigError, match="frames_per_second=-1"):
        AtRate(Ends(), -1)
    with pytest.raises(ConfigError, match="window"):
        TSMDense(0)
    with pytest.raises(ConfigError, match="window=4 is shorter than the clip of 8"):
        TSMDense(4)(info(100), 1, 8, 1)
    with pytest.raises(ConfigError, match=r"data\.views\.clips=10"):
        MMAction2Segments()(info(100), 10, 8, 1)
