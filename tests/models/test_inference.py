"""The network for inference gives the logits of the network in evaluation mode, whatever its parts."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from nlnet.models import batch_norm
from nlnet.models.inference import for_inference
from nlnet.models.non_local import NonLocalBlock, Output
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian, Pairwise
from nlnet.models.resnet import VideoResNet


def network(make: Callable[..., VideoResNet], block: Callable[..., NonLocalBlock]) -> VideoResNet:
    kernels = {"conv1": 5, "res2": [3, 1, 3]}
    return make(50, temporal_kernels=kernels, non_local=block, placement={50: {"res3": [1], "res4": [0, 2]}})


@pytest.mark.parametrize("pairwise", [Gaussian, EmbeddedGaussian, DotProduct, Concatenation])
@pytest.mark.parametrize("output", [Output(), Output(bias=False), Output(norm=False)], ids=str)
def test_same_logits(
    make_network: Callable[..., VideoResNet],
    shake: Callable[[nn.Module], nn.Module],
    pairwise: type[Pairwise],
    output: Output,
) -> None:
    torch.manual_seed(0)
    model = shake(network(make_network, partial(NonLocalBlock, pairwise=pairwise, output=output))).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    clip = torch.randn(2, 3, 4, 32, 32)
    with torch.inference_mode():
        expected, actual = model(clip), for_inference(model)(clip)
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert not torch.equal(actual, expected)  # it is another computation
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("change", [batch_norm.frozen_statistics, batch_norm.folded, batch_norm.frozen])
def test_networks_with_fixed_statistics(
    make_network: Callable[..., VideoResNet],
    shake: Callable[[nn.Module], nn.Module],
    change: Callable[[nn.Module], nn.Module],
) -> None:
    torch.manual_seed(0)
    model = change(shake(network(make_network, NonLocalBlock))).eval()
    clip = torch.randn(1, 3, 4, 32, 32)
    folded = for_inference(model)
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in folded.modules())
    torch.testing.assert_close(folded(clip), model(clip), rtol=1e-5, atol=1e-5)


def test_other_networks_come_back_as_they_are() -> None:
    other = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4))
    assert for_inference(other) is other


def test_under_autocast_weights_have_its_type_and_logits_stay(
    make_network: Callable[..., VideoResNet], shake: Callable[[nn.Module], nn.Module]
) -> None:
    """The weights are cast once, not in every pass: the same numbers to the bit."""
    torch.manual_seed(0)
    model = shake(network(make_network, NonLocalBlock)).eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        cast = for_inference(model)
        with torch.autocast("cpu", enabled=False):
            kept = for_inference(model)
        assert torch.equal(cast(clip), kept(clip))
    linear = [part for part in cast.modules() if isinstance(part, nn.Conv3d | nn.Linear)]
    assert linear
    assert all(part.weight.dtype == torch.bfloat16 for part in linear)
