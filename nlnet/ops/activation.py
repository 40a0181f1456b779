"""What logits mean: probabilities of classes that exclude one another, or of labels that each hold or not.

Both ways keep a mean of probabilities as logits, so that whatever is averaged first, the rest sees logits. Axes: K
classes, always the last one.
"""

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class Activation(Protocol):
    """Logits to probabilities."""

    name: str

    def __call__(self, logits: Tensor) -> Tensor:
        """[..., K] -> probabilities [..., K]."""

    def mean(self, logits: Tensor, dim: int) -> Tensor:
        """Logits [..., L, K] -> logits [..., K] whose probabilities are the mean of theirs along ``dim``."""


class Softmax:
    """One class for each video."""

    name = "softmax"

    def __call__(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=-1)

    def mean(self, logits: Tensor, dim: int) -> Tensor:
        """log(mean(softmax)) but for a constant, without leaving the logarithms."""
        return logits.log_softmax(dim=-1).logsumexp(dim=dim)


class Sigmoid:
    """Any number of labels for each video."""

    name = "sigmoid"

    def __call__(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def mean(self, logits: Tensor, dim: int) -> Tensor:
        """log(p / (1 - p)) of p = mean(sigmoid), without leaving the logarithms."""
        return F.logsigmoid(logits).logsumexp(dim=dim) - F.logsigmoid(-logits).logsumexp(dim=dim)
