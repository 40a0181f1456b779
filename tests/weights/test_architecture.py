"""What tensors say of a network, and what no network of ours can say."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nlnet.errors import CheckpointError
from nlnet.models.non_local import NonLocalBlock, Output
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian
from nlnet.models.resnet import Stage, Stem, VideoResNet
from nlnet.weights.architecture import NonLocalKind, read_architecture


def network(**options: object) -> VideoResNet:
    stages = {"res2": Stage(8, 1, spatial_stride=1), "res3": Stage(16, 11), "res4": Stage(16, 2)}
    defaults = {"num_classes": 5, "stem": Stem(channels=4, kernel=5)}
    return VideoResNet(stages, **(defaults | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("inflation", ["3x1x1", "3x3x3"])
def test_kernels_and_stages(inflation: str) -> None:
    kernels = {"conv1": 5, "res2": [3], "res3": [3, 1] * 5 + [3]}
    state = network(temporal_kernels=kernels, inflation=inflation).state_dict()
    found = read_architecture(state, source="x")
    assert found.stem == (4, 5)
    assert found.channels == {"res2": 8, "res3": 16, "res4": 16}
    assert found.temporal_kernels == {"conv1": (5,), "res2": (3,), "res3": (3, 1) * 5 + (3,), "res4": (1, 1)}
    assert found.inflation == inflation
    assert (found.depth, found.num_classes, found.non_local, found.placement) == (44, 5, None, {})
    assert not found.is_slow
    assert found.line() == f"depth 44, temporal kernels, inflated {inflation}, 5 classes"


def test_two_dimensional_kernels_and_slow_networks() -> None:
    state = network().state_dict()
    flat = {name: tensor[:, :, 0] if tensor.dim() == 5 else tensor for name, tensor in state.items()}
    for tensors in (state, flat):
        found = read_architecture(tensors, source="x")
        assert found.temporal_kernels == {"conv1": (1,), "res2": (1,), "res3": (1,) * 11, "res4": (1, 1)}
        assert (found.inflation, found.is_slow) == ("3x1x1", False)
    slow = network(temporal_kernels={"res4": [3, 3]}).state_dict()
    assert read_architecture(slow, source="x").is_slow
    no_head = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    assert read_architecture(no_head, source="x").line() == "depth 44, 2-D kernels, no classifier"


@pytest.mark.parametrize(
    ("pairwise", "kind"),
    [
        (Gaussian, "gaussian"),
        (EmbeddedGaussian, "embedded"),
        (DotProduct, "embedded"),
        (Concatenation, "concatenation"),
    ],
)
@pytest.mark.parametrize(("bias", "norm"), [(True, True), (False, True), (True, False)])
def test_blocks(pairwise: Callable[..., object], kind: str, bias: bool, norm: bool) -> None:
    block = functools.partial(NonLocalBlock, pairwise=pairwise, output=Output(bias=bias, norm=norm))  # type: ignore[arg-type]
    model = network(non_local=block, placement={44: {"res3": [1, 10], "res4": [0]}})
    found = read_architecture(model.state_dict(), source="x")
    assert found.placement == {"res3": (1, 10), "res4": (0,)}
    assert found.non_local == NonLocalKind(kind, norm=norm, out_bias=bias)  # type: ignore[arg-type]
    assert "non-local blocks behind res3 [1, 10], res4 [0], 5 classes" in found.line()


def without(*names: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {name: tensor for name, tensor in state.items() if not name.startswith(names)}


def with_tensor(name: str, *shape: int) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {**state, name: torch.ones(shape)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("stem."), "x: conv1 is missing"),
        (without("res3.4."), r"x: res3\.4\.a\.weight is missing"),
        (without("res3.4.c.weight"), r"x: res3\.4\.c\.weight is missing"),
        (without("res2."), "x: the stages are res3, res4, not res2"),
        (without("res"), "x: the stages are none"),
        (with_tensor("res3.4.b.weight", 4, 4, 3, 3, 3), "in the 1x1 and in the 3x3 convolutions"),
        (without("res3.nl1.g"), r"x: res3\.nl1 has no g or no W_z"),
        (with_tensor("res3.nl1.g.weight", 4, 16), "embeds 16 channels into 4; half is known"),
        (without("res3.nl1.bn"), "of several kinds"),
    ],
)
def test_what_is_no_such_network(change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str) -> None:
    model = network(temporal_kernels={"res2": [3]}, non_local=NonLocalBlock, placement={44: {"res3": [1], "res4": [0]}})
    state = model.state_dict()
    read_architecture(state, source="x")
    with pytest.raises(CheckpointError, match=message):
        read_architecture(change(state), source="x")
