"""Parameters and multiply-adds: the published table, and small networks counted by hand."""

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

from nlnet.config.compose import compose
from nlnet.config.models import build_model
from nlnet.models import cost
from nlnet.models.non_local import NonLocalBlock
from nlnet.models.resnet import VideoResNet


def configured(*overrides: str) -> nn.Module:
    """A network of the shipped configs, without numbers."""
    config = compose("train", [*overrides, "model/init=scratch", "data.root=x"])
    with torch.device("meta"):
        return build_model(config.model, num_classes=400)[0]


@cache
def count_32(*overrides: str) -> tuple[int, int]:
    """Parameters and multiply-adds of the authors' network for 32 frames, at 224 × 224 pixels."""
    model = configured(*overrides, "model/strides=authors_32")
    return cost.parameters(model), cost.multiply_adds(model, (32, 224, 224))


# Counted independently of this code for 400 classes: millions of parameters; giga multiply-adds at 224 × 224 pixels
# of the authors' 8-frame and 32-frame networks.
TABLE = [
    ("c2d_r50", "none", "3x1x1", 24.328, 19.29, 20.23),
    ("c2d_r50", "one_res4", "3x1x1", 26.429, 20.47, 21.42),
    ("c2d_r50", "five", "3x1x1", 31.686, 27.42, 28.36),
    ("c2d_r50", "ten", "3x1x1", 39.045, 35.55, 36.49),
    ("i3d_r50", "none", "3x1x1", 28.043, 28.11, 32.83),
    ("i3d_r50", "five", "3x1x1", 35.402, 36.24, 40.96),
    ("i3d_r50", "ten", "3x1x1", 42.760, 44.37, 49.09),
    ("i3d_r50", "none", "3x3x3", 33.434, None, 38.69),
    ("c2d_r101", "none", "3x1x1", 43.320, 34.14, 35.08),
    ("c2d_r101", "five", "3x1x1", 50.678, 42.27, 43.21),
    ("i3d_r101", "none", "3x1x1", 51.754, 46.66, 51.38),
    ("i3d_r101", "five", "3x1x1", 59.113, 54.79, 59.51),
    ("i3d_r101", "none", "3x3x3", 63.043, None, 61.86),
]


@pytest.mark.parametrize(
    ("network", "placement", "inflation", "millions", "giga_8", "giga_32"),
    TABLE,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_published_costs(
    network: str, placement: str, inflation: str, millions: float, giga_8: float | None, giga_32: float
) -> None:
    overrides = [f"model={network}", f"model/placement={placement}", f"model.inflation={inflation}"]
    model = configured(*overrides)
    assert f"{cost.parameters(model) / 1e6:.3f}" == f"{millions:.3f}"
    if giga_8 is not None:
        assert cost.multiply_adds(model, (8, 224, 224)) / 1e9 == pytest.approx(giga_8, rel=0.01)
    parameters_32, macs_32 = count_32(*overrides)
    assert parameters_32 == cost.parameters(model)
    assert macs_32 / 1e9 == pytest.approx(giga_32, rel=0.01)


@pytest.mark.parametrize(
    ("overrides", "millions", "giga"),
    [
        (["model/placement=five"], 7.358, 8.13),
        (["model/placement=five", "model.non_local.subsample=none"], 7.358, 20.2),
        (["model/placement=five", "model/non_local=gaussian"], 3.68, 7.05),
        (["model/placement=five", "model.non_local.axes=space"], 7.358, 5.89),
        (["model/placement=one_res2"], 0.132, 38.1),
        (["model/placement=one_res3"], 0.53, 2.29),
        (["model/placement=one_res4"], 2.10, 1.19),
        (["model/placement=one_res5"], 8.40, 0.99),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_blocks_add(overrides: list[str], millions: float, giga: float) -> None:
    """To C2D R50. The counts by stage are those of the 32-frame network; res3 and above are the same in both."""
    plain, blocks = count_32(), count_32(*overrides)
    assert (blocks[0] - plain[0]) / 1e6 == pytest.approx(millions, rel=0.01)
    assert (blocks[1] - plain[1]) / 1e9 == pytest.approx(giga, rel=0.01)


class Tiny(nn.Module):
    """Things that count and things that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.bn = nn.BatchNorm3d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.head(self.bn(self.conv(clip)).relu().mean(dim=(2, 3, 4)))


def test_counts_by_hand() -> None:
    model = Tiny()
    assert cost.parameters(model) == 3 * 4 * 3 + 2 * 4 + 5 * 4 + 5
    assert cost.multiply_adds(model, (6, 7, 8)) == 6 * 7 * 8 * 4 * (3 * 3) + 4 * 5


def test_counting_leaves_the_model_alone(make_network: Callable[..., VideoResNet]) -> None:
    model = make_network(50, placement={50: {"res3": [1]}}, non_local=NonLocalBlock)
    model.freeze(["stem"])
    before, flags = copy.deepcopy(model.state_dict()), [p.requires_grad for p in model.parameters()]
    macs = cost.multiply_adds(model, (4, 32, 32))
    assert macs == cost.multiply_adds(model, (4, 32, 32)) > 0
    assert cost.multiply_adds(model, (1, 32, 32)) > 0  # one position is left: batch norm must not be training
    assert model.training
    assert flags == [p.requires_grad for p in model.parameters()]
    for name, tensor in model.state_dict().items():
        assert tensor.device.type == "cpu", name
        assert torch.equal(tensor, before[name]), name
