"""Exact boxes of every crop rule on the scaled frame, and what becomes of them in the pixels of the source."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nlnet.data.crops import (
    AuthorsThree,
    Box,
    Centre,
    Crops,
    Flipped,
    GluonCVThree,
    MMAction2Three,
    SlowFastThree,
    Squares,
    Ten,
    Three,
    TSMThree,
    WholeFrame,
    source_box,
)
from nlnet.errors import ConfigError

RULES = [Centre, Three, AuthorsThree, SlowFastThree, MMAction2Three, TSMThree, Ten]


def corners(crops: Crops, height: int, width: int) -> list[tuple[int, int]]:
    return [crop.box[:2] for crop in crops(height, width)]


def test_corners_in_a_wide_frame() -> None:
    """256 x 341, where 85 pixels are free: the rules differ in the middle crop, the last one and the order."""
    assert corners(Centre(256, 256), 256, 341) == [(0, 42)]
    assert corners(Three(256, 256), 256, 341) == [(0, 0), (0, 42), (0, 85)]
    assert corners(AuthorsThree(256, 256), 256, 341) == [(0, 0), (0, 42), (0, 84)]
    assert corners(SlowFastThree(256, 256), 256, 341) == [(0, 0), (0, 43), (0, 85)]
    assert corners(MMAction2Three(256, 256), 256, 341) == [(0, 0), (0, 84), (0, 42)]
    assert corners(TSMThree(256, 256), 256, 341) == [(0, 0), (0, 84), (0, 42)]
    assert corners(TSMThree(256, 256), 256, 343) == [(0, 0), (0, 84), (0, 42)]
    assert corners(MMAction2Three(256, 256), 256, 343) == [(0, 0), (0, 86), (0, 43)]


def test_corners_in_an_upright_frame() -> None:
    assert corners(Centre(256, 256), 341, 256) == [(42, 0)]
    assert corners(Three(256, 256), 341, 256) == [(0, 0), (42, 0), (85, 0)]
    assert corners(AuthorsThree(256, 256), 341, 256) == [(0, 0), (42, 0), (84, 0)]
    assert corners(SlowFastThree(256, 256), 341, 256) == [(0, 0), (43, 0), (85, 0)]
    assert corners(MMAction2Three(256, 256), 341, 256) == [(0, 0), (84, 0), (42, 0)]
    assert corners(TSMThree(256, 256), 341, 256) == [(42, 0)] * 3  # only ever along the width


def test_corners_in_a_square_frame() -> None:
    for rule in RULES:
        assert set(corners(rule(256, 256), 256, 256)) == {(0, 0)}


def test_smaller_crops_are_central_along_the_shorter_side() -> None:
    assert corners(Centre(256, 224), 256, 341) == [(16, 58)]
    assert corners(Three(256, 224), 256, 341) == [(16, 0), (16, 58), (16, 117)]
    assert corners(SlowFastThree(256, 224), 256, 341) == [(16, 0), (16, 59), (16, 117)]
    # The authors move along the height wherever there is room, so also here.
    assert corners(AuthorsThree(256, 224), 256, 341) == [(0, 58), (16, 58), (32, 58)]
    assert corners(AuthorsThree(256, 256), 257, 256) == [(0, 0)] * 3  # one free pixel is no room


def test_ten_crops_are_corners_and_centre_each_with_its_mirror_image() -> None:
    crops = Ten(256, 224)(256, 341)
    places = [(0, 0), (0, 116), (32, 0), (32, 116), (16, 58)]
    assert [(crop.box, crop.flip) for crop in crops] == [
        ((top, left, 224, 224), flip) for top, left in places for flip in (False, True)
    ]


def test_flipped_is_all_crops_and_then_their_mirror_images() -> None:
    rule = AuthorsThree(256, 256)
    six = Flipped(rule)
    assert (six.label, six.num_crops) == ("6", 6)
    assert six.scaled(360, 640) == rule.scaled(360, 640) == (256, 455)
    assert [crop.box for crop in six(256, 341)] == [crop.box for crop in rule(256, 341)] * 2
    assert [crop.flip for crop in six(256, 341)] == [False] * 3 + [True] * 3


def test_gluoncv_forces_the_shape() -> None:
    crops = GluonCVThree(256, 256, 340)
    for height, width in ((100, 900), (900, 100), (256, 340)):
        assert crops.scaled(height, width) == (256, 340)
    assert corners(crops, 256, 340) == [(0, 0), (0, 42), (0, 84)]
    assert corners(GluonCVThree(256, 256, 341), 256, 341) == [(0, 0), (0, 42), (0, 85)]


def test_the_whole_frame() -> None:
    crops = WholeFrame(256)
    assert crops.scaled(360, 640) == (256, 455)
    assert [tuple(crop) for crop in crops(256, 455)] == [((0, 0, 256, 455), False)]
    assert (crops.label, crops.num_crops) == ("full", 1)


@pytest.mark.parametrize("rule", RULES)
def test_all_boxes_are_inside(rule: type[Squares]) -> None:
    crops = rule(20, 20)
    for length in range(20, 60):
        for height, width in ((20, length), (length, 20)):
            drawn = crops(height, width)
            assert len(drawn) == crops.num_crops
            for (top, left, tall, wide), _ in drawn:
                assert (tall, wide) == (20, 20)
                assert 0 <= top <= height - 20
                assert 0 <= left <= width - 20


@pytest.mark.parametrize(("height", "width"), [(256, 340), (256, 341), (340, 256), (256, 256)])
def test_boxes_are_exact_where_the_source_has_the_scaled_size(height: int, width: int) -> None:
    for rule in RULES:
        for crop in rule(256, 256)(height, width):
            assert source_box(crop.box, (height, width), (height, width)) == crop.box


def brute_force(box: Box, scaled: tuple[int, int], source: tuple[int, int]) -> tuple[list[float], list[float]]:
    """Edges of the box in the source as fractions: starts, ends."""
    scale = [of / whole for of, whole in zip(source, scaled, strict=True)]
    return [box[axis] * scale[axis] for axis in (0, 1)], [(box[axis] + box[2 + axis]) * scale[axis] for axis in (0, 1)]


@pytest.mark.parametrize("source", [(1080, 1920), (360, 640), (240, 320), (107, 200), (640, 360), (128, 171)])
def test_boxes_in_the_source_are_off_by_less_than_a_pixel(source: tuple[int, int]) -> None:
    scaled = Three(256, 256).scaled(*source)
    for top, left in product(range(0, scaled[0] - 223, 7), range(0, scaled[1] - 223, 7)):
        box = (top, left, 224, 224)
        own = source_box(box, scaled, source)
        starts, ends = brute_force(box, scaled, source)
        for axis in (0, 1):
            assert 0 <= own[axis] <= own[axis] + own[2 + axis] <= source[axis]
            assert abs(own[axis] - starts[axis]) <= 1
            assert abs(own[axis] + own[2 + axis] - ends[axis]) <= 1
            assert abs(own[2 + axis] - (ends[axis] - starts[axis])) <= 0.5


@pytest.mark.parametrize("source", [(1080, 1920), (107, 200), (641, 359)])
def test_a_crop_at_an_end_stays_there(source: tuple[int, int]) -> None:
    scaled = Three(256, 256).scaled(*source)
    free = (scaled[0] - 224, scaled[1] - 224)
    for down, right in product((False, True), repeat=2):
        top, left, height, width = source_box((down * free[0], right * free[1], 224, 224), scaled, source)
        assert top == (source[0] - height if down else 0)
        assert left == (source[1] - width if right else 0)


def test_a_crop_of_the_source_looks_like_the_crop_of_the_scaled_frame() -> None:
    """On a smooth picture the two orders, crop then scale and scale then crop, agree to a few of 255 levels."""
    rows, columns = np.mgrid[:360, :640]
    picture = 127 + 60 * np.sin(columns / 40) + 60 * np.cos(rows / 30)
    frame = torch.from_numpy(picture)[None, None].float()
    crops = SlowFastThree(256, 256)
    scaled = crops.scaled(360, 640)
    whole = F.interpolate(frame, size=scaled, mode="bilinear", antialias=True)
    for (top, left, height, width), _ in crops(*scaled):
        y, x, tall, wide = source_box((top, left, height, width), scaled, (360, 640))
        own = F.interpolate(
            frame[..., y : y + tall, x : x + wide], size=(height, width), mode="bilinear", antialias=True
        )
        assert (own - whole[..., top : top + height, left : left + width]).abs().max() < 3


def test_wrong_sizes_are_refused() -> None:
    cases = [
        lambda: Centre(224, 256),
        lambda: Three(256, 0),
        lambda: MMAction2Three(256, 224),
        lambda: GluonCVThree(256, 256, 200),
        lambda: WholeFrame(0),
    ]
    for case in cases:
        with pytest.raises(ConfigError, match=r"data\.views\.crops"):
            case()
