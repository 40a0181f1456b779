"""Window by window against a loop over windows; the network itself where the map is one window."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nlnet.errors import ConfigError
from nlnet.models.pooling import GlobalPool, WindowLogits, WindowProbabilities
from nlnet.models.resnet import VideoResNet
from nlnet.ops.activation import Activation, Sigmoid, Softmax


@pytest.fixture(scope="module")
def network(make_network: Callable[..., VideoResNet], shake: Callable[..., nn.Module]) -> VideoResNet:
    """Stride 16 in all: a clip of 48 x 80 has a map of 3 x 5."""
    torch.manual_seed(0)
    model = shake(make_network(11, dropout=0.9)).eval()
    assert isinstance(model, VideoResNet)
    nn.init.normal_(model.head.weight)
    return model


def by_hand(model: VideoResNet, clips: Tensor, window: int) -> Tensor:
    """Each window's mean, classified: [B, L, K]."""
    features = model.features(clips)
    height, width = features.shape[3:]
    tall, wide = min(window, height), min(window, width)
    logits = [
        model.head(features[:, :, :, top : top + tall, left : left + wide].mean(dim=(2, 3, 4)))
        for top in range(height - tall + 1)
        for left in range(width - wide + 1)
    ]
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 99])
@torch.inference_mode()
def test_windows_are_those_of_a_loop(network: VideoResNet, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    clips = torch.randn(2, 3, 4, 48, 80, generator=generator)
    features = network.features(clips)
    assert features.shape[2:] == (4, 3, 5)
    # Random weights hardly tell places apart, so the map is replaced by one that differs from place to place.
    varied = torch.randn(features.shape, generator=generator)
    monkeypatch.setattr(network, "features", lambda clip: varied)
    expected = by_hand(network, clips, window)
    places = (3 - min(window, 3) + 1) * (5 - min(window, 5) + 1)
    assert expected.shape == (2, places, 5)
    torch.testing.assert_close(network.window_logits(clips, window), expected, atol=1e-5, rtol=1e-5)
    activation: Activation
    for activation in (Softmax(), Sigmoid()):
        probabilities = activation(WindowProbabilities(window)(network, clips, activation))
        torch.testing.assert_close(probabilities, activation(expected).mean(1), atol=1e-5, rtol=1e-5)
        logits = WindowLogits(window)(network, clips, activation)
        torch.testing.assert_close(logits, expected.mean(1), atol=1e-5, rtol=1e-5)
    if places > 1:
        mean_of_probabilities, of_mean_logits = expected.softmax(-1).mean(1), expected.mean(1).softmax(-1)
        assert (mean_of_probabilities - of_mean_logits).abs().max() > 1e-3, "the three poolings must be told apart"
        assert window == 1 or (network(clips).softmax(-1) - of_mean_logits).abs().max() > 1e-3


@torch.inference_mode()
def test_one_window_is_the_network_itself(network: VideoResNet) -> None:
    clips = torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    logits = network(clips)
    for pooling in (GlobalPool(), WindowProbabilities(7), WindowLogits(7)):
        own = pooling(network, clips, Softmax())
        torch.testing.assert_close(own.softmax(-1), logits.softmax(-1), atol=1e-5, rtol=1e-5)


def test_a_network_without_windows_is_refused_with_the_mend() -> None:
    with pytest.raises(ConfigError, match=r"Flatten cannot classify windows .*data/views/pooling=global"):
        WindowLogits(7)(nn.Flatten(), torch.zeros(1, 3, 1, 2, 2), Softmax())
    with pytest.raises(ConfigError, match="window must be at least 1"):
        WindowProbabilities(0)(nn.Flatten(), torch.zeros(1, 3, 1, 2, 2), Softmax())
