"""Crops of a few sizes at five places, against the list of all of them written out."""

import pytest

from nlnet.config.compose import build, check, compose
from nlnet.data.decoders import VideoInfo
from nlnet.data.multi_scale_crop import MultiScaleCropView
from nlnet.data.sampling import sample_generator
from nlnet.data.transforms import View
from nlnet.errors import ConfigError


def drawn(view: MultiScaleCropView, height: int, width: int, count: int = 2000) -> list[View]:
    video = VideoInfo(100, height, width, 25.0)
    return [view(video, sample_generator(0, number)) for number in range(count)]


def test_squares_of_i3d_at_five_places() -> None:
    """Boxes of a 256 x 340 frame by hand: 256 whole, and 204 = int(0.8 x 256)."""
    views = drawn(MultiScaleCropView(frames=8, stride=2), 256, 340)
    whole = [(0, 0), (0, 84), (0, 42)]  # nothing free downwards; 340 - 256 = 84 = 4 x 21 to the right
    small = [(0, 0), (0, 136), (52, 0), (52, 136), (26, 68)]  # 52 = 4 x 13 and 136 = 4 x 34
    expected = {(top, left, 256, 256) for top, left in whole} | {(top, left, 204, 204) for top, left in small}
    boxes = [view.box for view in views]
    assert set(boxes) == expected
    for box in expected:
        two_of_five = box[2] == 256 and box[1] in (0, 84)
        share = 0.5 * (2 if two_of_five else 1) / 5
        assert boxes.count(box) / len(boxes) == pytest.approx(share, abs=0.03), box
    assert {view.size for view in views} == {(224, 224)}
    assert sum(view.flip for view in views) / len(views) == pytest.approx(0.5, abs=0.04)
    assert len({view.indices for view in views}) == 85  # every start that fits


def test_neighbouring_scales_of_c2d_and_edges_that_snap() -> None:
    """Of 1, 0.875, 0.75, 0.66 times 256: 256, 224, 192 and int(168.96) = 168; and 0.87 gives 222, which is 224."""
    views = drawn(MultiScaleCropView(frames=8, stride=8, scales=(1, 0.875, 0.75, 0.66), max_gap=1), 256, 256)
    edges = {view.box[2:] for view in views}
    pairs = [(256, 256), (224, 224), (192, 192), (168, 168), (256, 224), (224, 192), (192, 168)]
    assert edges == {*pairs, *((width, height) for height, width in pairs)}
    assert MultiScaleCropView(frames=8, stride=8, scales=(0.87,)).boxes == [(224, 224)]
    assert MultiScaleCropView(frames=8, stride=8, scales=(0.86,)).boxes == [(220, 220)]


@pytest.mark.parametrize("size", [(1080, 1920), (240, 320), (32, 32), (200, 7), (1, 1)])
def test_boxes_are_inside_any_frame(size: tuple[int, int]) -> None:
    for view in drawn(MultiScaleCropView(frames=2, stride=1, scales=(1, 0.66), max_gap=1), *size, count=200):
        top, left, height, width = view.box
        assert height >= 1
        assert width >= 1
        assert 0 <= top <= top + height <= size[0]
        assert 0 <= left <= left + width <= size[1]


@pytest.mark.parametrize("changes", [{"scales": ()}, {"scales": (1.2,)}, {"scales": (0.0,)}, {"max_gap": -1}])
def test_what_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"data\.augment\.{next(iter(changes))}"):
        MultiScaleCropView(frames=8, stride=8, **changes)  # type: ignore[arg-type]


def test_it_takes_the_place_of_the_jitter_in_a_config() -> None:
    overrides = ["data.root=x", "data/augment=multi_scale_crop", "data/augment/placement=slowfast", "data/clip=8x2"]
    config = compose("train", overrides)
    check(config)
    view = build(config.data.augment)
    assert isinstance(view, MultiScaleCropView)
    assert (view.frames, view.stride, len(view.boxes)) == (8, 2, 2)
    with pytest.raises(ConfigError, match="inverse_short_side"):
        compose("train", [*overrides, "data.augment.inverse_short_side=true"])
