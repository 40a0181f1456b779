"""Counts of right answers against sorting by hand."""

import math

import pytest
import torch
from torch import Tensor

from nlnet.metrics import (
    average_precision,
    in_top_k,
    mean_average_precision,
    mean_class_accuracy,
    per_class_counts,
    share_at_top_1,
)

NAN, INF = math.nan, math.inf


def in_top_k_by_sorting(scores: Tensor, label: int, k: int) -> bool:
    """The label counts when fewer than k other classes have a score that is not below its own."""
    own = float(scores[label])
    rivals = [float(score) for index, score in enumerate(scores) if index != label]
    ahead = sorted([*rivals, own], reverse=True)
    return ahead.index(own) + sum(score == own for score in rivals) < k


@pytest.mark.parametrize("k", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("levels", [3, 1000], ids=["ties", "few ties"])
def test_in_top_k_is_sorting(k: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(k)
    scores = torch.randint(levels, (200, 8), generator=generator).float()
    labels = torch.randint(8, (200,), generator=generator)
    expected = [in_top_k_by_sorting(row, int(label), k) for row, label in zip(scores, labels, strict=True)]
    assert in_top_k(scores, labels, k).tolist() == expected
    assert 0 < sum(expected) <= 200


def test_constant_scores_win_nothing() -> None:
    scores, labels = torch.full((4, 10), 0.1), torch.arange(4)
    assert not in_top_k(scores, labels, 5).any()
    assert in_top_k(scores, labels, 10).all()


@pytest.mark.parametrize(
    "row", [[NAN, NAN, NAN], [NAN, 0.2, 0.3], [0.9, NAN, 0.1], [0.9, NAN, NAN]], ids=["all", "own", "one", "others"]
)
def test_nan_is_never_right(row: list[float]) -> None:
    scores, label = torch.tensor([row]), torch.tensor([0])
    assert not in_top_k(scores, label, 1).any()


def test_infinite_scores() -> None:
    scores = torch.tensor([[INF, 0.0, 1.0], [-INF, 0.0, 1.0], [2.0, -INF, -INF]])
    assert in_top_k(scores, torch.zeros(3, dtype=torch.int64), 1).tolist() == [False, False, True]


def test_no_videos() -> None:
    scores, labels = torch.empty(0, 3), torch.empty(0, dtype=torch.int64)
    assert in_top_k(scores, labels, 1).shape == (0,)
    assert [counts.tolist() for counts in per_class_counts(scores, labels)] == [[0, 0, 0], [0, 0, 0]]


def test_share_at_top_1_is_top_1_for_labels_and_the_share_for_mixed_clips() -> None:
    scores = torch.tensor([[3.0, 1, 2], [0, 1, 1], [1, NAN, 0], [INF, 0, 0], [0, 5, 1]])
    labels = torch.tensor([0, 1, 0, 0, 1])
    assert share_at_top_1(scores, labels).tolist() == in_top_k(scores, labels, 1).float().tolist() == [1, 0, 0, 0, 1]
    hard = torch.nn.functional.one_hot(labels, 3).float()
    assert share_at_top_1(scores, hard).tolist() == [1, 0, 0, 0, 1]
    mixed = torch.tensor([[0.75, 0.25, 0], [0.5, 0.5, 0], [1, 0, 0], [0, 1, 0], [0.875, 0.125, 0]])
    assert share_at_top_1(scores, mixed).tolist() == [0.75, 0, 0, 0, 0.125]


def test_per_class_counts() -> None:
    scores = torch.tensor([[3, 1, 0, 0], [1, 3, 0, 0], [1, 3, 0, 0], [5, 5, 0, 0], [0, 0, 1, 0]]).float()
    labels = torch.tensor([0, 0, 1, 1, 2])
    videos, correct = per_class_counts(scores, labels)
    assert videos.tolist() == [2, 2, 1, 0]
    assert correct.tolist() == [1, 1, 1, 0]  # the tie of the fourth video is no win


def test_mean_class_accuracy() -> None:
    assert mean_class_accuracy(torch.tensor([2, 4, 1, 0]), torch.tensor([1, 1, 1, 0])) == pytest.approx(1.75 / 3)
    assert mean_class_accuracy(torch.tensor([10, 1]), torch.tensor([10, 0])) == 0.5
    assert mean_class_accuracy(torch.tensor([0, 0]), torch.tensor([0, 0])) == 0.0


def average_precision_by_counting(scores: list[float], targets: list[bool]) -> float:
    """For each video of the class, the share of its kind among all that are ranked no lower; ties go to the others."""
    precisions = []
    own = [score for score, target in zip(scores, targets, strict=True) if target]
    others = [score for score, target in zip(scores, targets, strict=True) if not target]
    for place, score in enumerate(sorted(own, reverse=True), start=1):
        precisions.append(place / (place + sum(other >= score for other in others)))
    return sum(precisions) / len(precisions)


@pytest.mark.parametrize("levels", [2, 5, 1000], ids=["many ties", "ties", "few ties"])
def test_average_precision_is_counting(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    scores = torch.randint(levels, (60, 7), generator=generator).float()
    targets = torch.rand(60, 7, generator=generator) < torch.linspace(0.02, 0.9, 7)
    targets[:, 3] = False
    targets[0, 0] = True
    expected = {
        k: average_precision_by_counting(scores[:, k].tolist(), targets[:, k].tolist()) for k in range(7) if k != 3
    }
    result = average_precision(scores, targets)
    assert result[3].isnan()
    for k, value in expected.items():
        assert float(result[k]) == pytest.approx(value)
    assert mean_average_precision(scores, targets) == pytest.approx(sum(expected.values()) / 6)


def test_average_precision_of_nothing_and_of_nan() -> None:
    assert mean_average_precision(torch.rand(4, 2), torch.zeros(4, 2, dtype=torch.bool)) == 0.0
    targets = torch.tensor([[True], [False], [False]])
    assert mean_average_precision(torch.zeros(3, 1), targets) == pytest.approx(
        1 / 3
    )  # constant scores: the worst order
    for scores in ([NAN, 0.5, 0.2], [0.5, NAN, NAN], [NAN, NAN, NAN]):
        assert mean_average_precision(torch.tensor(scores)[:, None], targets) == pytest.approx(1 / 3)
    assert mean_average_precision(torch.tensor([[0.9], [0.5], [-INF]]), targets) == 1.0
