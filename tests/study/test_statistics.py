"""The statistics of paired comparisons, each against the slow and obvious way to get it."""

import itertools
import math

import numpy as np
import pytest

from nlnet.study.statistics import bootstrap_of, bootstrap_of_means, mcnemar, merge_p


def random_bools(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.6


@pytest.mark.parametrize("seeds", [(1, 1), (3, 3), (2, 3)])
def test_bootstrap_is_that_of_resampled_videos(seeds: tuple[int, int]) -> None:
    ours, theirs = random_bools(0, seeds[0], 40), random_bools(1, seeds[1], 40)
    found = bootstrap_of_means(ours, theirs)
    assert found.difference == pytest.approx(ours.mean() - theirs.mean())
    generator = np.random.default_rng(5)
    slow = []
    for _ in range(4000):
        videos = [int(generator.integers(40)) for _ in range(40)]
        slow.append(np.mean([ours[:, v].mean() - theirs[:, v].mean() for v in videos]))
    low, high = np.quantile(slow, [0.025, 0.975])
    # Two estimates of a quantile from thousands of draws, of a distribution with standard deviation of about 0.1.
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)
    assert found.low < found.difference < found.high


def test_bootstrap_is_exact_where_all_resamples_can_be_counted() -> None:
    """Three videos have 27 resamples: the quantiles must be those of the counted distribution."""
    ours, theirs = np.array([[True, True, False]]), np.array([[False, True, True]])
    gains = [1.0, 0.0, -1.0]
    counted = sorted(np.mean(draw) for draw in itertools.product(gains, repeat=3))
    found = bootstrap_of_means(ours, theirs, level=0.8)
    assert (found.low, found.high) == pytest.approx((counted[int(0.1 * 27)], counted[int(0.9 * 27)]))


def test_no_difference_and_the_same_difference_everywhere_have_no_width() -> None:
    same = random_bools(0, 2, 30)
    assert bootstrap_of_means(same, same).low == bootstrap_of_means(same, same).high == 0
    everything, nothing = np.ones((1, 30), dtype=bool), np.zeros((1, 30), dtype=bool)
    sure = bootstrap_of_means(everything, nothing)
    assert (sure.difference, sure.low, sure.high) == (1, 1, 1)


def test_other_videos_are_refused() -> None:
    with pytest.raises(ValueError, match="same videos"):
        bootstrap_of_means(random_bools(0, 1, 3), random_bools(0, 1, 4))


def test_bootstrap_of_any_score() -> None:
    gains = np.random.default_rng(0).normal(size=50)
    found = bootstrap_of(lambda videos: float(gains[videos].mean()), 50, resamples=4000)
    assert found.difference == pytest.approx(gains.mean())
    error = gains.std() / math.sqrt(50)
    assert found.low == pytest.approx(gains.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(gains.mean() + 1.96 * error, abs=0.2 * error)


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (1, 0), (3, 3), (2, 9), (12, 1), (0, 15)])
def test_mcnemar_counts_all_ways_that_coins_can_fall(ours: int, theirs: int) -> None:
    """Of all 2^n outcomes those at least as unequal as this one."""
    n, far = ours + theirs, abs(ours - theirs)
    outcomes = [math.comb(n, heads) for heads in range(n + 1) if abs(n - 2 * heads) >= far]
    expected = sum(outcomes) / 2**n
    a = np.array([True] * ours + [False] * theirs + [True] * 7 + [False] * 4)
    b = np.array([False] * ours + [True] * theirs + [True] * 7 + [False] * 4)
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(expected)


def test_mcnemar_of_many_videos_follows_the_normal_law() -> None:
    ours = np.arange(20_000) < 10_150
    z = (10_150 - 9_850 - 1) / math.sqrt(20_000)
    assert mcnemar(ours, ~ours) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)
    assert mcnemar(np.ones(3000, dtype=bool), np.zeros(3000, dtype=bool)) == 0.0  # 2^-2999 is no float


def test_merged_p_values_hold_however_the_seeds_depend() -> None:
    assert merge_p([0.04]) == 0.04
    assert merge_p([0.5, 0.01, 0.02]) == 0.04
    assert merge_p([0.01, 0.03]) == 0.06
    assert merge_p([0.9, 0.8, 0.7]) == 1
    # The worst case: the same p in every seed, or only k of n small. Never more often below a level than the level.
    levels = np.random.default_rng(0).random((20_000, 1))
    assert np.mean([merge_p([p, p, p]) <= 0.05 for (p,) in levels]) <= 0.05
    with pytest.raises(ValueError, match="no p"):
        merge_p([])
