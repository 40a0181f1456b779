"""Activation checkpointing changes neither outputs, gradients nor statistics, only what is kept."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from nlnet.errors import ConfigError
from nlnet.models import batch_norm
from nlnet.models.non_local import NonLocalBlock
from nlnet.models.recompute import recomputed, recomputes
from nlnet.models.resnet import VideoResNet

Make = Callable[..., VideoResNet]
CLIP = (4, 32, 32)


def network(make_network: Make, shake: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = make_network(
        11, temporal_kernels={"conv1": 3}, non_local=NonLocalBlock, placement={11: {"res3": [0]}}, dropout=0.5
    )
    model.res2.add_module("drop", nn.Dropout(0.2))
    return shake(model).to(memory_format=torch.channels_last_3d)


def steps(model: nn.Module) -> list[torch.Tensor]:
    """Two training steps: gradients of each, then all weights and statistics."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    for _ in range(2):
        clips = torch.randn(2, 3, *CLIP).to(memory_format=torch.channels_last_3d)
        model(clips).square().sum().backward()
        seen += [p.grad.clone() for p in model.parameters() if p.grad is not None]
        optimizer.step()
        optimizer.zero_grad()
    return seen + list(model.state_dict().values())


@pytest.mark.parametrize("norm", ["normal", "frozen_statistics", "frozen", "folded"])
@pytest.mark.parametrize("names", [["res2"], ["stem", "res2.0", "res3", "res4"]], ids=str)
def test_the_same_to_the_bit(make_network: Make, shake: Callable[..., nn.Module], names: list[str], norm: str) -> None:
    plain = getattr(batch_norm, norm)(network(make_network, shake)).train()
    other = recomputed(copy.deepcopy(plain), names)
    assert list(other.state_dict()) == list(plain.state_dict())
    for one, two in zip(steps(plain), steps(other), strict=True):
        assert torch.equal(one, two)


def test_the_same_in_bf16(make_network: Make, shake: Callable[..., nn.Module]) -> None:
    plain = network(make_network, shake)
    other = recomputed(copy.deepcopy(plain), ["res2", "res3"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for one, two in zip(steps(plain), steps(other), strict=True):
            assert torch.equal(one, two)


def test_each_block_keeps_its_input_alone(make_network: Make, shake: Callable[..., nn.Module]) -> None:
    """Until the backward pass, nothing of the inside of a block is kept."""
    stage = network(make_network, shake).get_submodule("res3")
    other = recomputed(nn.Sequential(copy.deepcopy(stage)), ["0"])
    shapes: list[list[torch.Size]] = [[], []]
    for model, kept in zip((stage, other), shapes, strict=True):
        x = torch.randn(1, 8, 4, 8, 8, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.shape) or t, lambda t: t):
            model(x)
    assert len(shapes[0]) > 20
    assert sorted(shapes[1]) == sorted([x.shape, torch.Size([1, 16, 4, 4, 4])])  # of the Bottleneck, of the block


def test_it_costs_one_more_forward_pass(make_network: Make, shake: Callable[..., nn.Module]) -> None:
    model = recomputed(network(make_network, shake), ["res2", "res3"])
    calls: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(partial(lambda name, *_: calls.append(name), name))
    model(torch.randn(2, 3, *CLIP)).sum().backward()
    for name in ("stem.conv", "res2.0.a", "res2.0.b", "res3.0.a", "res4.0.a"):
        assert calls.count(name) == (2 if name.startswith(("res2", "res3")) else 1), name
    before = len(calls)
    with torch.no_grad():
        model.eval()(torch.randn(2, 3, *CLIP))
    assert len(calls) - before == len(set(calls))  # once each


def test_parts_that_are_not_there(make_network: Make) -> None:
    for names, message in [
        (["res9"], "no part 'res9'; there are stem, res2"),
        ([""], "no part ''"),
        (["res2.0", "res2"], "res2.0 is in res2, which recomputes it already"),
    ]:
        with pytest.raises(ConfigError, match=message):
            recomputed(make_network(11), names)


def test_a_network_says_that_it_recomputes(make_network: Make) -> None:
    assert not recomputes(make_network(50))
    assert recomputes(copy.deepcopy(recomputed(make_network(50), ["res3"])))
