"""Averaging probabilities as logits is averaging probabilities, also far out in the tails."""

import pytest
import torch

from nlnet.ops.activation import Activation, Sigmoid, Softmax


@pytest.mark.parametrize("activation", [Softmax(), Sigmoid()])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_mean_is_that_of_the_probabilities(activation: Activation, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    function = torch.softmax if isinstance(activation, Softmax) else lambda x, _: torch.sigmoid(x)
    torch.testing.assert_close(activation(logits), function(logits, -1))
    torch.testing.assert_close(activation(activation.mean(logits, 1)), function(logits, -1).mean(1))
    torch.testing.assert_close(activation.mean(logits[:, :1], 1).softmax(-1), logits[:, 0].softmax(-1))


@pytest.mark.parametrize("activation", [Softmax(), Sigmoid()])
def test_mean_of_extreme_logits_is_finite(activation: Activation) -> None:
    logits = torch.tensor([[[200.0, -200.0], [-200.0, 200.0]]])
    mean = activation.mean(logits, 1)
    assert mean.isfinite().all()
    torch.testing.assert_close(activation(mean), torch.full((1, 2), 0.5))
    assert activation.mean(torch.tensor([[[300.0, -300.0]] * 2]), 1).isfinite().all()
