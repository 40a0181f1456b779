"""Networks of the published depths that are quick on a CPU: the same blocks with an eighth of the channels and less."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nlnet.models.resnet import Stage, Stem, VideoResNet

BLOCKS = {8: (1, 1), 11: (1, 1, 1), 29: (2, 2, 3, 2), 38: (2, 2, 6, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def thin_network(depth: int, **options: object) -> VideoResNet:
    """A ``VideoResNet`` of this depth with 8 to 64 channels and no dropout."""
    stages = {
        f"res{number + 2}": Stage(channels=8 << number, blocks=blocks, spatial_stride=1 if number == 0 else 2)
        for number, blocks in enumerate(BLOCKS[depth])
    }
    defaults = {"num_classes": 5, "stem": Stem(channels=4), "dropout": 0.0}
    return VideoResNet(stages, **(defaults | options))  # type: ignore[arg-type]


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with random batch-norm scales and statistics: zero scales hide residual branches."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5)
                module.running_var.add_(0.5)
    return model


@pytest.fixture(scope="session")
def make_network() -> Callable[..., VideoResNet]:
    return thin_network


@pytest.fixture(scope="session")
def shake() -> Callable[..., nn.Module]:
    return shaken
