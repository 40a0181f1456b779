"""Accuracy as exact counts, and average precision for several labels. Axes: N videos (or clips), K classes."""

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


def share_at_top_1(scores_NK: Tensor, targets: Tensor) -> Tensor:
    """[N, K], labels [N] or shares of the classes [N, K] -> [N]: the share of the class with the best score.

    For labels, 1 where ``in_top_k`` is true and 0 elsewhere; for clips that show several classes in shares that sum to
    one (mixup), how much of the clip is of the class named. Ties and NaN win nothing.
    """
    if targets.ndim == 1:
        return in_top_k(scores_NK, targets, 1).float()
    best_N = scores_NK.argmax(1)  # of a NaN, where there is one
    return targets.gather(1, best_N[:, None])[:, 0] * in_top_k(scores_NK, best_N, 1)


def per_class_counts(scores_NK: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """[N, K], [N] -> (videos [K], of these correct at top-1 [K])."""
    classes = scores_NK.shape[1]
    correct_N = in_top_k(scores_NK, labels_N, 1)
    return torch.bincount(labels_N, minlength=classes), torch.bincount(labels_N[correct_N], minlength=classes)


def mean_class_accuracy(videos_K: Tensor, correct_K: Tensor) -> float:
    """The mean over the classes that occur of the share of their videos that is correct."""
    occurs_K = videos_K > 0
    return float((correct_K[occurs_K] / videos_K[occurs_K]).double().mean()) if occurs_K.any() else 0.0


def average_precision(scores_NK: Tensor, targets_NK: Tensor) -> Tensor:
    """[N, K], bool [N, K] -> [K]: for each class, the mean over its videos of the precision of the ranking down to it.

    Ties and NaN are counted against a class: among equal scores its own videos come last. NaN for a class without
    videos.
    """
    worst_NK = torch.where(targets_NK, -torch.inf, torch.inf)
    scores_NK = torch.where(scores_NK.isnan(), worst_NK, scores_NK)
    # Two stable sorts: the second keeps the others of the class in front of its own among equals.
    order_NK = targets_NK.int().argsort(dim=0, stable=True)
    ranked_NK = scores_NK.gather(0, order_NK).argsort(dim=0, descending=True, stable=True)
    hits_NK = targets_NK.gather(0, order_NK).gather(0, ranked_NK).double()
    ranks_N1 = torch.arange(1, len(hits_NK) + 1, dtype=torch.float64)[:, None]
    precision_NK = hits_NK.cumsum(0) / ranks_N1
    return (precision_NK * hits_NK).sum(0) / hits_NK.sum(0)


def mean_average_precision(scores_NK: Tensor, targets_NK: Tensor) -> float:
    """[N, K], bool [N, K] -> mean of ``average_precision`` over the classes that have videos; 0 if none has."""
    occurs_K = targets_NK.any(0)
    return float(average_precision(scores_NK, targets_NK)[occurs_K].mean()) if occurs_K.any() else 0.0
