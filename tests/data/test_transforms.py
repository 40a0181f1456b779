"""Views are inside the frame, keep the aspect, and have the distribution the recipe says."""

import math

import numpy as np
import pytest
import torch

from nlnet.data.crops import AuthorsThree, Centre, Crops, Flipped, Ten, Three, WholeFrame
from nlnet.data.decoders import VideoInfo
from nlnet.data.placement import Ends, SlowFastClip
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


def test_a_placement_decides_on_the_frames_of_training_clips() -> None:
    view = TrainView(frames=8, stride=8, placement=SlowFastClip(frames_per_second=None))
    for number in range(50):
        indices = np.array(view(info(256, 340, 100), sample_generator(number)).indices)
        assert 0 <= indices[0] <= 36
        assert set(np.diff(indices)) <= {9, 10}  # any start, rounded down
        assert indices[-1] - indices[0] in (63, 64)


def test_inverse_short_sides_favour_the_small_ones() -> None:
    """1 / side uniform between 1/340 and 1/256: of 4000 draws compared with the distribution by hand."""
    view = TrainView(frames=1, stride=1, short_side=(256, 340), inverse_short_side=True)
    sides = [view._short_side(sample_generator(number)) for number in range(4000)]
    assert (min(sides), max(sides)) == (256, 340)
    below = np.mean([side <= 290 for side in sides])
    expected = (1 / 256 - 1 / 290.5) / (1 / 256 - 1 / 340)  # 290.5 rounds up
    assert abs(below - expected) < 0.03
    assert expected > 0.47  # uniform sides would give 0.41


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crops", [Three(256, 256), Three(256, 224), Flipped(AuthorsThree(256, 256)), Ten(256, 224)])
def test_all_views_are_inside(crops: Crops, size: tuple[int, int]) -> None:
    views, video = EvalViews(frames=8, stride=8, clips=10, placement=Ends(), crops=crops), info(*size)
    drawn = views(video)
    assert len(drawn) == views.num_views == 10 * crops.num_crops
    for view in drawn:
        assert_inside(view, video)
        assert view.size == (crops.size if isinstance(crops, Three | Ten) else 256,) * 2
    assert len({view.indices for view in drawn}) == 10
    first = drawn[: crops.num_crops]
    assert len({view.indices for view in first}) == 1  # clip by clip
    for number, view in enumerate(drawn):
        same = first[number % crops.num_crops]
        assert (view.box, view.flip) == (same.box, same.flip)


@pytest.mark.parametrize("size", SIZES)
def test_three_crops_reach_both_ends_of_the_longer_side(size: tuple[int, int]) -> None:
    one, two, three = (
        view.box
        for view in EvalViews(frames=8, stride=8, clips=1, placement=Ends(), crops=Three(256, 256))(info(*size))
    )
    axis = 0 if size[0] > size[1] else 1
    assert one[axis] == 0
    assert three[axis] + three[2 + axis] == size[axis]
    assert abs(two[axis] - three[axis] / 2) <= 1 + min(size) / 256 / 2  # half a pixel of the scaled frame
    assert one[1 - axis] == two[1 - axis] == three[1 - axis] == 0  # size equals short_side: the whole short side


def test_centre_crop_is_central() -> None:
    views = EvalViews(frames=8, stride=1, clips=1, placement=Ends(), crops=Centre(256, 224))
    assert views.name == "1x1"
    assert views(info(256, 340)) == [View(tuple(range(46, 54)), (16, 58, 224, 224), (224, 224))]


def test_whole_frame_views_keep_the_aspect() -> None:
    views = EvalViews(frames=8, stride=1, clips=10, placement=Ends(), crops=WholeFrame(256))
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
        lambda: EvalViews(frames=8, stride=8, clips=0, placement=Ends(), crops=Centre(256, 256)),
        lambda: EvalViews(frames=8, stride=0, clips=1, placement=Ends(), crops=Centre(256, 256)),
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
