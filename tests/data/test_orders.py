"""What an epoch has: each video once, or each class as often as its share."""

import math
from collections import Counter
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from nlnet.data.annotations import Label, Video, VideoList
from nlnet.data.orders import Balanced, Shuffled
from nlnet.data.sampling import Order, sample_generator
from nlnet.errors import ConfigError


def video_list(labels: list[Label]) -> VideoList:
    videos = tuple(Video(f"{index}.mp4", label, f"{index}") for index, label in enumerate(labels))
    return VideoList(videos, tuple("abcdef"), "test")


# A long tail: 60, 25, 10, 4 and 1 videos, mixed.
LONG_TAIL = video_list(np.random.default_rng(0).permutation(np.repeat(range(5), [60, 25, 10, 4, 1])).tolist())
SIZES = [60, 25, 10, 4, 1]


def epoch(rule: Balanced, number: int, videos: VideoList = LONG_TAIL) -> list[int]:
    return rule(videos, sample_generator(0, number, 0)).tolist()


def test_shuffled_is_each_video_once_as_order_alone_has_it() -> None:
    generators = [sample_generator(3, 5, 0) for _ in range(2)]
    indices = Shuffled()(LONG_TAIL, generators[0])
    assert sorted(indices) == list(range(100))
    assert (indices == generators[1].permutation(100)).all()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_classes_come_in_their_shares(power: float) -> None:
    weights = [size ** (1 - power) for size in SIZES]
    shares = [100 * weight / sum(weights) for weight in weights]
    totals = np.zeros(5)
    for number in range(200):
        counts = Counter(LONG_TAIL.videos[index].label for index in epoch(Balanced(power), number))
        assert sum(counts.values()) == 100
        for label, share in enumerate(shares):
            assert math.floor(share + 1e-9) <= counts[label] <= math.ceil(share - 1e-9)
            totals[label] += counts[label]
    np.testing.assert_allclose(totals / 200, shares, atol=0.15)


def test_videos_of_a_class_come_equally_often() -> None:
    overall: Counter[int] = Counter()
    for number in range(60):
        counts = Counter(epoch(Balanced(), number))
        overall.update(counts)
        for label in range(5):
            of_class = [counts[k] for k, video in enumerate(LONG_TAIL.videos) if video.label == label]
            assert max(of_class) - min(of_class) <= 1
    frequent = [overall[k] for k, video in enumerate(LONG_TAIL.videos) if video.label == 0]
    assert len(frequent) == 60
    assert min(frequent) > 5  # 20 of 60 in each of 60 epochs: 20 times each, now these, now those
    assert epoch(Balanced(), 0) != epoch(Balanced(), 1)
    assert epoch(Balanced(), 1) == epoch(Balanced(), 1)


def test_no_class_comes_in_blocks() -> None:
    labels = [LONG_TAIL.videos[index].label for index in epoch(Balanced(), 0)]
    assert sum(one == other for one, other in pairwise(labels)) < 40


def test_a_video_with_several_labels_is_of_the_rarest() -> None:
    several: list[Label] = [(0, 1)] * 3 + [(0,)] * 6 + [()] * 1
    videos = video_list(several)
    counts: Counter[int] = Counter()
    for number in range(300):
        counts.update(epoch(Balanced(), number, videos))
    with_1, with_0, without = (sum(counts[k] for k in of) for of in (range(3), range(3, 9), [9]))
    assert with_1 + with_0 + without == 3000
    for total in (with_1, with_0, without):
        assert total == pytest.approx(1000, abs=40)


def test_order_takes_a_rule_and_stays_a_function_of_the_number() -> None:
    order = Order(100, seed=0, draw=partial(Balanced(), LONG_TAIL))
    assert [order(number) for number in range(100, 200)] == epoch(Balanced(), 1)
    assert order(3) == epoch(Balanced(), 0)[3]


def test_power_is_a_share() -> None:
    with pytest.raises(ConfigError, match=r"data\.order\.power"):
        Balanced(power=1.5)
