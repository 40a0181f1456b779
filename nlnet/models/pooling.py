"""From the last feature map to the scores of a view: whole, or window by window as a fully-convolutional network.

A pooling is called with the network, clips and the activation -> logits of each clip. Probabilities that were averaged
come back as the logits that have them, so that what follows need not know. Axes: B clips, L windows, K classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from nlnet.errors import ConfigError
from nlnet.ops.activation import Activation


@dataclass(frozen=True)
class GlobalPool:
    """The network as it is trained: features averaged over all positions, then classified. Fits any network."""

    def __call__(self, model: nn.Module, clips: Tensor, activation: Activation) -> Tensor:
        """[B, 3, T, H, W] -> logits [B, K]."""
        logits: Tensor = model(clips)
        return logits


@dataclass(frozen=True)
class WindowProbabilities:
    """Each window of the map classified as a training crop was; the mean of their probabilities.

    Windows span all of time and ``window`` x ``window`` positions, stride 1: 7 is the map of a crop of 224 in a
    ResNet. The paper's test (section 4.1), the authors' (lib/models/resnet_video.py) and SlowFast's (ResNetBasicHead
    of slowfast/models/head_helper.py).
    """

    window: int = 7

    def __call__(self, model: nn.Module, clips: Tensor, activation: Activation) -> Tensor:
        """[B, 3, T, H, W] -> logits [B, K]."""
        return activation.mean(_window_logits(model, clips, self.window), 1)


@dataclass(frozen=True)
class WindowLogits:
    """As ``WindowProbabilities``, but the mean of the logits (create_res_basic_head of pytorchvideo/models/head.py).

    The classifier is linear, so this is the classifier of a weighted mean of the map: its middle, which more windows
    see, counts for more than in ``GlobalPool``.
    """

    window: int = 7

    def __call__(self, model: nn.Module, clips: Tensor, activation: Activation) -> Tensor:
        """[B, 3, T, H, W] -> logits [B, K]."""
        return _window_logits(model, clips, self.window).mean(dim=1)


def _window_logits(model: nn.Module, clips: Tensor, window: int) -> Tensor:
    """[B, 3, T, H, W] -> [B, L, K]."""
    if window < 1:
        raise ConfigError(f"data.views.pooling.window must be at least 1, not {window}")
    window_logits = getattr(model, "window_logits", None)
    if window_logits is None:
        raise ConfigError(
            f"{type(model).__name__} cannot classify windows of its feature map: take data/views/pooling=global"
        )
    logits: Tensor = window_logits(clips, window)
    return logits.float()  # sums of many small probabilities follow
