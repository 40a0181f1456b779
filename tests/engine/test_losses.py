"""Losses against their definitions, class by class."""

import math

import pytest
import torch

from nlnet.engine.losses import BinaryCrossEntropy, CrossEntropy
from nlnet.errors import ConfigError

LOGITS = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_is_minus_the_mean_log_of_the_softmax(smoothing: float) -> None:
    labels = [3, 0, 6, 3, 1]
    total = 0.0
    for row, label in zip(LOGITS.tolist(), labels, strict=True):
        shares = [math.exp(logit) / sum(map(math.exp, row)) for logit in row]
        target = [smoothing / 7 + (1 - smoothing) * (k == label) for k in range(7)]
        total -= sum(t * math.log(p) for t, p in zip(target, shares, strict=True))
    loss = CrossEntropy(smoothing)(LOGITS, torch.tensor(labels))
    assert float(loss) == pytest.approx(total / 5)
    assert not CrossEntropy().multi_label


@pytest.mark.parametrize(("over_classes", "divisor"), [("mean", 35), ("sum", 5)])
def test_binary_cross_entropy_is_a_sigmoid_for_each_class(over_classes: str, divisor: int) -> None:
    targets = (torch.rand(5, 7, generator=torch.Generator().manual_seed(1)) < 0.3).double()
    targets[2] = 0  # a clip that shows nothing
    total = 0.0
    for row, wanted in zip(LOGITS.tolist(), targets.tolist(), strict=True):
        for logit, target in zip(row, wanted, strict=True):
            score = 1 / (1 + math.exp(-logit))
            total -= math.log(score if target else 1 - score)
    loss = BinaryCrossEntropy(over_classes)(LOGITS, targets)  # type: ignore[arg-type]
    assert float(loss) == pytest.approx(total / divisor)
    assert BinaryCrossEntropy().multi_label


def test_options_out_of_range_are_refused_by_name() -> None:
    for smoothing in (-0.1, 1.0):
        with pytest.raises(ConfigError, match=r"trainer.loss.label_smoothing"):
            CrossEntropy(smoothing)
    with pytest.raises(ConfigError, match=r"trainer.loss.over_classes"):
        BinaryCrossEntropy("max")  # type: ignore[arg-type]
