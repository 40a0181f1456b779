"""Is one network better than another on the same videos? Pure functions of what each got right.

Both answers are paired: every video is its own control, so that videos which are easy or hard for both networks do not
count. Axes: N videos, S seeds (trainings of a network that differ in nothing else), R resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """A difference with its percentile interval, in the unit of the scores."""

    difference: float
    low: float
    high: float


def bootstrap_of_means(
    ours_SN: NDArray[np.bool_],
    theirs_SN: NDArray[np.bool_],
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Difference in accuracy and its interval over videos. bool [S, N], bool [S', N] -> ours minus theirs.

    The percentile bootstrap (Efron, 1979): N videos are drawn from the N with replacement, and a video brings what it
    did in all trainings of both networks. The trainings are taken as they are: how much accuracy varies from seed to
    seed is the standard deviation's business.
    """
    if ours_SN.shape[1] != theirs_SN.shape[1] or not ours_SN.size or not theirs_SN.size:
        raise ValueError(f"the same videos are needed on both sides, not {ours_SN.shape} and {theirs_SN.shape}")
    gain_N = ours_SN.mean(axis=0) - theirs_SN.mean(axis=0)
    # Videos with the same gain are interchangeable, so a resample is a draw of how many there are of each gain.
    gains_G, counts_G = np.unique(gain_N, return_counts=True)
    num_videos = len(gain_N)
    draws_RG = np.random.default_rng(seed).multinomial(num_videos, counts_G / num_videos, size=resamples)
    return Interval(float(gain_N.mean()), *_percentiles(draws_RG @ gains_G / num_videos, level))


def bootstrap_of(
    score: Callable[[NDArray[np.int64]], float],
    num_videos: int,
    *,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The same for a difference that is no mean over videos, such as that of mean average precisions.

    ``score`` is the difference on the videos of these indices [N], of which some come more than once.
    """
    generator = np.random.default_rng(seed)
    scores_R = np.array([score(generator.integers(num_videos, size=num_videos)) for _ in range(resamples)])
    return Interval(score(np.arange(num_videos)), *_percentiles(scores_R, level))


def _percentiles(values_R: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(values_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(ours_N: NDArray[np.bool_], theirs_N: NDArray[np.bool_]) -> float:
    """Exact p of McNemar's test (1947): that so unequal a share of the videos only one got right is chance. Two-sided.

    Under the null hypothesis each of the n videos that only one of the two got right is as likely either's: the smaller
    count is binomial (n, 1/2). 1 where they agree on every video.
    """
    only_ours, only_theirs = int((ours_N & ~theirs_N).sum()), int((theirs_N & ~ours_N).sum())
    n = only_ours + only_theirs
    ways = tail = 1  # n over 0, and the sum up to there
    for k in range(min(only_ours, only_theirs)):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    return min(1.0, float(2 * tail / 2**n))


def merge_p(values: Sequence[float]) -> float:
    """One p for the same question asked with several seeds: twice the median, which holds however the seeds depend.

    Rüger (1978). A single p stays as it is.
    """
    if not values:
        raise ValueError("no p values")
    ordered = sorted(values)
    if len(ordered) == 1:
        return ordered[0]
    # The upper one of an even number: twice the k-th smallest of n is valid where n / k is at most two.
    return min(1.0, 2 * ordered[len(ordered) // 2])
