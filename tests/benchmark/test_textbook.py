"""The baselines compute what our networks compute, from the same weights."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from nlnet.benchmark.textbook import AFFINITIES, TextbookBlock, TextbookResNet, broadcast_concatenation
from nlnet.errors import ConfigError
from nlnet.models.non_local import NonLocalBlock, Output
from nlnet.models.pairwise import Concatenation, EmbeddedGaussian, Pairwise
from nlnet.models.resnet import Stage, Stem, VideoResNet


def with_any_numbers(module: nn.Module) -> nn.Module:
    """No scale is zero and no mean is, so that nothing is switched off."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith(("bn.weight", "running_var")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("bias", "running_mean")):
                tensor.uniform_(-0.5, 0.5)
    return module


def agree(ours: nn.Module, theirs: nn.Module, x: torch.Tensor) -> None:
    """The same outputs and gradients of the input, in training and in evaluation mode, in double precision."""
    ours, theirs, x = ours.double(), theirs.double(), x.double()
    for mode in (True, False):
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, z = ours.train(mode)(a), theirs.train(mode)(b)
        torch.testing.assert_close(y, z, rtol=1e-8, atol=1e-8)
        weights = torch.randn_like(y)
        for output, given in ((y, a), (z, b)):
            (output * weights).sum().backward()
            assert given.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("subsample", ["first", "last", "none"])
@pytest.mark.parametrize("form", AFFINITIES)
def test_blocks(form: Callable[[int, int], Pairwise], subsample: str) -> None:
    torch.manual_seed(0)
    ours = with_any_numbers(NonLocalBlock(16, pairwise=form, subsample=subsample, output=Output(scale_init=1.0)))
    agree(ours, TextbookBlock(ours), torch.randn(2, 16, 3, 6, 4))


def test_concatenation_as_a_broadcast_sum() -> None:
    torch.manual_seed(0)
    ours = with_any_numbers(NonLocalBlock(16, pairwise=Concatenation, output=Output(norm=False)))
    nn.init.normal_(ours.out.weight)
    agree(ours, TextbookBlock(ours, affinity=broadcast_concatenation), torch.randn(2, 16, 3, 6, 4))


@pytest.mark.parametrize("inflation", ["3x1x1", "3x3x3"])
def test_networks(inflation: str) -> None:
    torch.manual_seed(0)
    ours = VideoResNet(
        {"res2": Stage(32, 2, spatial_stride=1, pool=(2, 2, 0)), "res3": Stage(64, 2)},
        num_classes=5,
        stem=Stem(channels=8, kernel=5),
        temporal_kernels={"conv1": 3, "res2": [3, 1], "res3": [1, 3]},
        inflation=inflation,
        non_local=partial(NonLocalBlock, pairwise=EmbeddedGaussian),
        placement={14: {"res3": [0]}},
        dropout=0.0,
    )
    agree(with_any_numbers(ours), TextbookResNet(ours), torch.randn(2, 3, 4, 32, 40))


def test_what_the_textbook_does_not_have() -> None:
    with pytest.raises(ConfigError, match="space and time"):
        TextbookBlock(NonLocalBlock(8, axes="space"))
    with pytest.raises(ConfigError, match="C2D and I3D, not Linear"):
        TextbookResNet(nn.Linear(1, 1))
