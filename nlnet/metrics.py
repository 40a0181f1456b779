"""Accuracy as exact counts. Axes: N videos (or clips), K classes."""

import torch
from torch import Tensor


def in_top_k(scores_NK: Tensor, labels_N: Tensor, k: int) -> Tensor:
    """[N, K], [N] -> bool [N]: whether the label is among the k best scores.

    Ties and NaN are counted against the label, so constant scores and broken ones win nothing. With k or fewer classes
    every finite score is right.
    """
    own_N1 = scores_NK.gather(1, labels_N[:, None])
    at_least_as_good_N = (~(scores_NK < own_N1)).sum(1)  # the label itself is one of them
    return (at_least_as_good_N <= k) & own_N1[:, 0].isfinite()


def per_class_counts(scores_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """[N, K], [N] -> (videos [K], of these correct at top-1 [K])."""
    classes = scores_NK.shape[1]
    correct_N = in_top_k(scores_NK, labels_N, 1)
    return torch.bincount(labels_N, minlength=classes), torch.bincount(labels_N[correct_N], minlength=classes)


def mean_class_accuracy(videos_K: Tensor, correct_K: Tensor) -> float:
    """The mean over the classes that occur of the share of their videos that is correct."""
    occurs_K = videos_K > 0
    return float((correct_K[occurs_K] / videos_K[occurs_K]).double().mean()) if occurs_K.any() else 0.0
