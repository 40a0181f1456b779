"""Every named protocol of tests, whole: the frames, boxes and mirroring of all its views, pooling and ensemble.

The expected values are worked out here from the published rules alone, for a video of 300 frames at 30 frames per
second in 256 x 341, so that no box is rounded, and 8 frames of stride 8.
"""

from typing import Any, NamedTuple

import pytest

from nlnet.config.compose import build, check, compose, group_options
from nlnet.data.decoders import VideoInfo
from nlnet.data.transforms import EvalViews
from nlnet.models.ensemble import Largest, MeanLogit, MeanProbability
from nlnet.models.pooling import GlobalPool, WindowLogits, WindowProbabilities

VIDEO = VideoInfo(300, 256, 341, 30.0)
ENDS = [[j * 236 // 9 + 8 * k for k in range(8)] for j in range(10)]
AUTHORS = [[(30 * j + 8 * k) % 300 for k in range(8)] for j in range(10)]
SLOWFAST = [[int((236 * j + 90 * k) / 10) for k in range(8)] for j in range(10)]
SEGMENTS = [[18, 56, 93, 131, 168, 206, 243, 281]]  # the middles of 0 to 36, 37 to 74, …, 262 to 299
MMACTION2 = [[27 * j + 8 * k for k in range(8)] for j in range(10)]


class Expected(NamedTuple):
    clips: list[list[int]]
    crops: list[tuple[int, ...]]  # left, and if not 256 x 256 at the top: top, size; on 256 x 341
    pooling: Any = GlobalPool()
    ensemble: Any = MeanProbability()
    flips: tuple[bool, ...] = ()


WINDOWS = WindowProbabilities(7)
PROTOCOLS = {
    "1x1": Expected([[118 + 8 * k for k in range(8)]], [(42,)]),
    "10x1": Expected(ENDS, [(42,)]),
    "10x3": Expected(ENDS, [(0,), (42,), (85,)]),
    "centre224": Expected([[118 + 8 * k for k in range(8)]], [(58, 16, 224)]),
    "segments_1x1": Expected(SEGMENTS, [(42,)]),
    "segments_1x3": Expected(SEGMENTS, [(0,), (42,), (85,)]),
    "authors_10x3": Expected(AUTHORS, [(0,), (42,), (84,)], WINDOWS),
    "authors_10x6": Expected(AUTHORS, [(0,), (42,), (84,)] * 2, WINDOWS, flips=(False,) * 3 + (True,) * 3),
    "slowfast_10x3": Expected(SLOWFAST, [(0,), (43,), (85,)], WINDOWS),
    "pytorchvideo_10x3": Expected(SLOWFAST, [(0,), (43,), (85,)], WindowLogits(7)),
    "mmaction2_10x3": Expected(MMACTION2, [(0,), (84,), (42,)]),
    "mmaction2_tsm_1x10": Expected(
        [[0, 43, 85, 128, 171, 214, 256, 299]],
        [(left, top, 224) for left, top in ((0, 0), (116, 0), (0, 32), (116, 32), (58, 16)) for _ in range(2)],
        flips=(False, True) * 5,
    ),
    "tsm_dense_10x3": Expected(ENDS, [(0,), (84,), (42,)], ensemble=MeanLogit()),
}


def protocol(option: str, *overrides: str) -> EvalViews:
    config = compose("train", ["data.root=x", f"data/views={option}", *overrides])
    check(config)
    views: EvalViews = build(config.data.views)
    return views


@pytest.mark.parametrize("option", PROTOCOLS)
def test_all_views_of_a_protocol(option: str) -> None:
    expected, views = PROTOCOLS[option], protocol(option)
    assert views.name == ("centre224_1x1" if option == "centre224" else option)
    flips = expected.flips or (False,) * len(expected.crops)
    crops = [(left, *(rest or (0, 256))) for left, *rest in expected.crops]
    wanted = [
        (tuple(clip), (top, left, size, size), (size, size), flip)
        for clip in expected.clips
        for (left, top, size), flip in zip(crops, flips, strict=True)
    ]
    assert [(view.indices, view.box, view.size, view.flip) for view in views(VIDEO)] == wanted
    assert views.num_views == len(wanted)
    assert (views.pooling, views.ensemble) == (expected.pooling, expected.ensemble)


@pytest.mark.parametrize(("option", "window"), [("fcn", 7), ("fcn_288", 9)])
def test_whole_frames_fully_convolutional(option: str, window: int) -> None:
    views = protocol(option)
    assert [view.indices for view in views(VIDEO)] == [tuple(clip) for clip in ENDS]
    assert {(view.box, view.size) for view in views(VIDEO)} == {((0, 0, 256, 341), (256, 341))}
    assert (views.pooling, views.ensemble) == (WindowProbabilities(window), MeanProbability())


def test_mmaction2_c2d_scales_to_224() -> None:
    """224 x 298, with 74 pixels free; each crop as high as the source."""
    views = protocol("mmaction2_c2d_10x3")
    drawn = views(VIDEO)
    assert [view.indices for view in drawn[::3]] == [tuple(clip) for clip in MMACTION2]
    edge = round(224 * 341 / 298)
    free = 341 - edge
    assert [view.box for view in drawn[:3]] == [(0, left, 256, edge) for left in (0, free, (free + 1) // 2)]
    assert {view.size for view in drawn} == {(224, 224)}
    assert views.pooling == GlobalPool()


def test_gluoncv_forces_every_frame_to_256_by_340() -> None:
    """300 frames: 38 are kept, and a clip is 8 of these."""
    views = protocol("gluoncv_10x3")
    drawn = views(VideoInfo(300, 512, 680, 30.0))
    kept = list(range(0, 300, 8))
    assert [view.indices for view in drawn[::3]] == [tuple(kept[j * 30 // 9 :][:8]) for j in range(10)]
    assert [view.box for view in drawn[:3]] == [(0, left, 512, 512) for left in (0, 84, 168)]
    tall = views(VideoInfo(300, 340, 256, 30.0))
    assert [view.box[1] for view in tall[:3]] == [0, round(42 * 63 / 84), 63]  # 256 of 340 pixels are 193 of 256
    assert {view.size for view in tall} == {(256, 256)}
    assert views.pooling == GlobalPool()


def test_every_protocol_is_tested_here() -> None:
    assert {*PROTOCOLS, "fcn", "fcn_288", "mmaction2_c2d_10x3", "gluoncv_10x3"} == set(group_options("data/views"))


def test_parts_of_a_protocol_can_be_changed() -> None:
    views = protocol(
        "10x3",
        "data/views/placement=slowfast",
        "data/views/crops=authors_flip",
        "data/views/pooling=window_logits",
        "data.views.pooling.window=4",
        "data/views/ensemble=largest",
        "data.views.clips=5",
        "data.views.source=mine",
    )
    assert views.name == "mine_5x6"
    assert (views.pooling, views.ensemble) == (WindowLogits(4), Largest())
    assert views(VIDEO)[6].indices == tuple(int((236 + 45 * k) / 5) for k in range(8))


def test_ends_at_30_frames_per_second() -> None:
    views = protocol("10x1", "data/views/placement=ends_30fps")
    assert views(VideoInfo(600, 256, 341, 60.0))[9].indices == tuple(2 * index for index in ENDS[9])


def test_the_training_twin_of_slowfast() -> None:
    config = compose(
        "train", ["data.root=x", "data/augment/placement=slowfast", "data.augment.inverse_short_side=true"]
    )
    check(config)
    view = build(config.data.augment)
    assert (view.placement.frames_per_second, view.inverse_short_side) == (30, True)
    assert view.placement.short(400, 300) == 299
