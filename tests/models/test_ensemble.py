"""Views to videos, against loops."""

import math

import pytest
import torch

from nlnet.models.ensemble import Largest, MeanLogit, MeanProbability
from nlnet.ops.activation import Sigmoid, Softmax


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def sigmoid(row: list[float]) -> list[float]:
    return [1 / (1 + math.exp(-value)) for value in row]


@pytest.mark.parametrize(("activation", "function"), [(Softmax(), softmax), (Sigmoid(), sigmoid)])
def test_ensembles_are_loops_over_views(activation: Softmax | Sigmoid, function: object) -> None:
    assert callable(function)
    logits = 2 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for video, views in enumerate(logits.tolist()):
        probabilities = [function(view) for view in views]
        by_class = list(zip(*probabilities, strict=True))
        mean_logits = [sum(values) / 4 for values in zip(*views, strict=True)]
        for ensemble, expected in (
            (MeanProbability(), [sum(values) / 4 for values in by_class]),
            (MeanLogit(), function(mean_logits)),
            (Largest(), [max(values) for values in by_class]),
        ):
            wanted = torch.tensor(expected, dtype=torch.float64)
            torch.testing.assert_close(ensemble(logits, activation)[video], wanted)
            torch.testing.assert_close(ensemble(logits[video], activation), wanted)
