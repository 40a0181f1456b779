"""Views are inside the frame, keep the aspect, and have the distribution the recipe says."""

import math

import numpy as np
import pytest
import torch

from nlnet.data.decoders import VideoInfo
from nlnet.data.sampling import resized_shape, sample_generator
from nlnet.data.transforms import EvalViews, Normalize, TrainView, View
from nlnet.errors import ConfigError

SIZES = [(256, 340), (340, 256), (256, 256), (32, 32), (1080, 1920), (1, 1), (7, 200)]


def info(height: int, width: int, num_frames: int = 100) -> VideoInfo:
    return VideoInfo(num_frames, height, width, 25.0)


def assert_inside(view: View, video: VideoInfo) -> None:
    top, left, height, width = view.box
    assert height >= 1
    assert width >= 1
    assert 0 <= top <= top + height <= video.height
    assert 0 <= left <= left + width <= video.width


@pytest.mark.parametrize("size", SIZES)
def test_train_views_are_inside_and_nearly_square(size: tuple[int, int]) -> None:
    view, video = TrainView(frames=8, stride=8), info(*size)
    for number in range(300):
        drawn = view(video, sample_generator(0, number))
        assert_inside(drawn, video)
        assert drawn.size == (224, 224)
        assert len(drawn.indices) == 8
        _, _, height, width = drawn.box
        # An edge is 224 of a short side of 256 to 320, rounded to whole pixels; so is the other one.
        low, high = 224 / 320 * min(size), 224 / 256 * min(size)
        assert max(1, math.floor(low)) <= height <= max(1, math.ceil(high))
        # The longer side was rounded down, by less than one of about 256 pixels.
        assert abs(height - width) <= 1 + high / 256


def test_train_views_have_the_distribution_of_the_recipe() -> None:
    """As drawing the square in the resized frame would: edges, places and flips."""
    video, count = info(256, 340), 20_000
    view = TrainView(frames=1, stride=1)
    drawn = [view(video, sample_generator(5, number)) for number in range(count)]
    rng = np.random.default_rng(0)
    edges, tops, lefts = [], [], []
    for _ in range(count):
        short_side = int(rng.integers(256, 321))
        height, width = resized_shape(256, 340, short_side)
        scale = 256 / short_side
        edges.append(224 * scale)
        tops.append(rng.integers(height - 224 + 1) * scale)
        lefts.append(rng.integers(width - 224 + 1) * scale)
    for position, expected in ((2, edges), (0, tops), (1, lefts)):
        values = np.array([one.box[position] for one in drawn], float)
        assert abs(values.mean() - np.mean(expected)) < 0.8
        assert abs(values.std() - np.std(expected)) < 0.8
    assert abs(np.mean([one.flip for one in drawn]) - 0.5) < 0.02
    starts = np.array([one.indices[0] for one in drawn])
    assert starts.min() == 0
    assert starts.max() == 99


def test_train_view_is_a_function_of_the_generator() -> None:
    view, video = TrainView(frames=4, stride=2), info(256, 340)
    assert view(video, sample_generator(0, 7)) == view(video, sample_generator(0, 7))
    assert view(video, sample_generator(0, 7)) != view(video, sample_generator(0, 8))


def test_flip_can_be_turned_off() -> None:
    for probability, expected in ((0.0, False), (1.0, True)):
        view = TrainView(frames=1, stride=1, flip=probability)
        assert {view(info(256, 340), sample_generator(number)).flip for number in range(50)} == {expected}


@pytest.mark.parametrize("size", SIZES)
def test_three_crops_reach_both_ends_of_the_longer_side(size: tuple[int, int]) -> None:
    views, video = EvalViews(frames=8, stride=8, clips=10, crops=3), info(*size)
    drawn = views(video)
    assert len(drawn) == views.num_views == 30
    assert views.name == "10x3"
    for view in drawn:
        assert_inside(view, video)
        assert view.size == (256, 256)
        assert not view.flip
    assert len({view.indices for view in drawn}) == 10
    for first in range(0, 30, 3):
        one, two, three = (view.box for view in drawn[first : first + 3])
        assert drawn[first].indices == drawn[first + 2].indices
        axis = 0 if size[0] > size[1] else 1
        assert one[axis] == 0
        assert three[axis] + three[2 + axis] == size[axis]
        assert two[axis] == three[axis] // 2
        assert one[1 - axis] == two[1 - axis] == three[1 - axis] == 0  # crop equals short_side: the whole short side


def test_centre_crop_is_central() -> None:
    (view,) = EvalViews(frames=8, stride=1, clips=1, crops=1, short_side=256, crop=224)(info(256, 340))
    assert view.box == (16, 58, 224, 224)
    assert view.indices == tuple(range(46, 54))


def test_whole_frame_views_keep_the_aspect() -> None:
    views = EvalViews(frames=8, stride=1, clips=10, crops=1, short_side=256, crop=None)
    drawn = views(info(360, 640))
    assert views.name == "10xfull"
    assert len(drawn) == views.num_views == 10
    assert all(view.box == (0, 0, 360, 640) and view.size == (256, 455) for view in drawn)


def test_wrong_views_are_refused_at_construction() -> None:
    cases = [
        lambda: TrainView(frames=8, stride=8, short_side=(256, 320), crop=257),
        lambda: TrainView(frames=8, stride=8, short_side=(320, 256)),
        lambda: TrainView(frames=8, stride=8, short_side=(256,)),
        lambda: TrainView(frames=0, stride=8),
        lambda: TrainView(frames=8, stride=8, flip=1.5),
        lambda: EvalViews(frames=8, stride=8, clips=0, crops=1),
        lambda: EvalViews(frames=8, stride=8, clips=1, crops=2),
        lambda: EvalViews(frames=8, stride=8, clips=1, crops=3, crop=None),
        lambda: EvalViews(frames=8, stride=8, clips=1, crops=3, short_side=224, crop=256),
        lambda: Normalize([0.5], [0.5]),
        lambda: Normalize([0.5] * 3, [0.5, 0.0, 0.5]),
    ]
    for case in cases:
        with pytest.raises(ConfigError):
            case()


def test_normalize_is_the_formula_per_channel() -> None:
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(256, (2, 3, 5, 4, 3), dtype=torch.uint8, generator=generator)
    normalize = Normalize(mean=[0.45, 0.4, 0.5], std=[0.225, 0.2, 0.25])
    before = clips.clone()
    result = normalize(clips)
    assert result.shape == (2, 3, 3, 5, 4)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(clips, before)
    for channel in range(3):
        expected = (clips[..., channel].double() / 255 - normalize.mean[channel]) / normalize.std[channel]
        torch.testing.assert_close(result[:, channel].double(), expected, atol=2e-6, rtol=0)


def test_normalize_refuses_other_layouts() -> None:
    normalize = Normalize([0.45] * 3, [0.225] * 3)
    for wrong in (torch.zeros(1, 2, 4, 4, 3), torch.zeros(1, 3, 2, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            normalize(wrong)
