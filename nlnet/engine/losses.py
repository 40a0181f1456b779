"""What training minimises: logits [B, K] and targets -> a scalar, the mean over the clips.

Axes: B clips, K classes.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch.nn.functional as F
from torch import Tensor

from nlnet.errors import ConfigError


class Loss(Protocol):
    """Logits [B, K], targets -> mean loss. ``multi_label`` says which targets it takes."""

    @property
    def multi_label(self) -> bool: ...

    def __call__(self, logits_BK: Tensor, targets: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax and cross entropy, for one label per clip: logits [B, K], labels int64 [B].

    Of mixed clips the targets are the shares of the classes, [B, K] with rows that sum to one.

    Args:
        label_smoothing: share of the target spread over all classes.
    """

    label_smoothing: float = 0.0
    multi_label: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"trainer.loss.label_smoothing must be in [0, 1), not {self.label_smoothing}")

    def __call__(self, logits_BK: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits_BK, targets, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """A sigmoid and cross entropy for each class (paper, section 5.2): logits [B, K], targets [B, K] in [0, 1].

    Args:
        over_classes: ``mean``, as SlowFast has it, or ``sum``: K times as large, and with it the gradients.
    """

    over_classes: Literal["mean", "sum"] = "mean"
    multi_label: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.over_classes not in ("mean", "sum"):
            raise ConfigError(f"trainer.loss.over_classes must be mean or sum, not {self.over_classes}")

    def __call__(self, logits_BK: Tensor, targets: Tensor) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(logits_BK, targets)
        return loss if self.over_classes == "mean" else loss * logits_BK.shape[1]
