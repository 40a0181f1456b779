"""From the scores of a video's views to the video's: logits [..., V, K] -> scores [..., K]. One class for each rule.

Axes: V views, K classes. The scores are probabilities, which for ``Largest`` need not sum to one.
"""

from dataclasses import dataclass

from torch import Tensor

from nlnet.ops.activation import Activation


@dataclass(frozen=True)
class MeanProbability:
    """The paper's (section 4.1), and almost everybody's."""

    def __call__(self, logits: Tensor, activation: Activation) -> Tensor:
        return activation(logits).mean(dim=-2)


@dataclass(frozen=True)
class MeanLogit:
    """The probabilities of the mean logits: views that are sure count for more (TSM, test_models.py)."""

    def __call__(self, logits: Tensor, activation: Activation) -> Tensor:
        return activation(logits.mean(dim=-2))


@dataclass(frozen=True)
class Largest:
    """The largest probability: what any view has seen, the video shows (SlowFast's Charades recipes)."""

    def __call__(self, logits: Tensor, activation: Activation) -> Tensor:
        return activation(logits).amax(dim=-2)
