"""Frame indices and orders against brute force."""

import pickle
from collections import Counter

import numpy as np
import pytest

from nlnet.data.sampling import Order, random_clip, resized_shape, sample_generator, uniform_clips


def slow_window(start: int, num_frames: int, frames: int, stride: int) -> tuple[int, ...]:
    """Frame by frame, going back to the first one after the last one."""
    indices, position = [], start
    for _ in range(frames):
        indices.append(position)
        for _ in range(stride):
            position = position + 1 if position + 1 < num_frames else 0
    return tuple(indices)


@pytest.mark.parametrize(("num_frames", "frames", "stride"), [(20, 4, 3), (12, 4, 3), (13, 4, 3), (5, 4, 3), (1, 8, 8)])
def test_random_clip_draws_every_start_that_fits_and_no_other(num_frames: int, frames: int, stride: int) -> None:
    starts = range(num_frames - frames * stride + 1) if num_frames >= frames * stride else [0]
    expected = {slow_window(start, num_frames, frames, stride) for start in starts}
    generator = sample_generator(1)
    drawn = Counter(
        random_clip(num_frames, frames=frames, stride=stride, generator=generator) for _ in range(200 * len(expected))
    )
    assert set(drawn) == expected
    assert min(drawn.values()) > 140  # of 200 on average: four standard deviations


def test_uniform_clips_cover_both_ends_evenly() -> None:
    for num_frames in range(1, 90):
        for clips in (1, 2, 3, 10):
            windows = uniform_clips(num_frames, clips=clips, frames=8, stride=4)
            last = max(0, num_frames - 32)
            starts = [window[0] for window in windows]
            exact = np.linspace(0, last, clips) if clips > 1 else np.array([last / 2])
            assert starts == [int(np.floor(start + 1e-9)) for start in exact]
            assert windows == [slow_window(start, num_frames, 8, 4) for start in starts]


def test_short_videos_loop() -> None:
    assert uniform_clips(3, clips=1, frames=8, stride=1) == [(0, 1, 2, 0, 1, 2, 0, 1)]
    assert random_clip(2, frames=3, stride=3, generator=sample_generator(0)) == (0, 1, 0)


def test_resized_shape_has_the_short_side_exactly() -> None:
    for height in (1, 2, 107, 240, 1080):
        for width in (1, 3, 107, 240, 1921):
            for short_side in (1, 32, 256, 320):
                new_height, new_width = resized_shape(height, width, short_side)
                assert min(new_height, new_width) == short_side
                longer, new_longer = max(height, width), max(new_height, new_width)
                # The largest whole number that keeps the ratio from growing.
                assert new_longer * min(height, width) <= longer * short_side
                assert (new_longer + 1) * min(height, width) > longer * short_side
                assert (new_height >= new_width) if height > width else (new_width >= new_height)
    assert resized_shape(107, 200, 256)[0] == 256  # 255 with a ratio in float32


def test_generators_depend_on_the_whole_key() -> None:
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (2**40, 3), (3, 2**40)]
    draws = {key: tuple(sample_generator(*key).integers(1 << 60, size=4).tolist()) for key in keys}
    assert len(set(draws.values())) == len(keys)
    assert all(tuple(sample_generator(*key).integers(1 << 60, size=4).tolist()) == draws[key] for key in keys)


def test_numbers_of_different_samples_are_independent() -> None:
    first = np.array([sample_generator(0, number).random() for number in range(2000)])
    assert abs(first.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.08


@pytest.mark.parametrize("num_videos", [1, 2, 7, 100])
def test_each_epoch_is_a_permutation(num_videos: int) -> None:
    order = Order(num_videos, seed=3)
    epochs = [[order(epoch * num_videos + position) for position in range(num_videos)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(num_videos)) for epoch in epochs)
    if num_videos == 100:
        assert len({tuple(epoch) for epoch in epochs}) == 4
        assert epochs[0] != [Order(num_videos, seed=4)(position) for position in range(num_videos)]


def test_order_is_a_function_of_the_sample_number_only() -> None:
    order = Order(10, seed=0)
    forwards = [order(number) for number in range(50)]
    assert [order(number) for number in reversed(range(50))] == forwards[::-1]
    assert [pickle.loads(pickle.dumps(order))(number) for number in range(50)] == forwards


def test_order_without_shuffling_repeats_the_list() -> None:
    order = Order(3, seed=0, shuffle=False)
    assert [order(number) for number in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        random_clip(0, frames=1, stride=1, generator=sample_generator(0))
    with pytest.raises(ValueError, match="positive"):
        uniform_clips(5, clips=0, frames=1, stride=1)
    with pytest.raises(ValueError, match="positive"):
        resized_shape(0, 5, 3)
    with pytest.raises(ValueError, match="positive"):
        Order(0, seed=0)
