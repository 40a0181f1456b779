"""Parameters and multiply-adds: the published table, and small networks counted by hand."""

import copy
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import nn

from nlnet.config.compose import compose
from nlnet.config.models import build_model
from nlnet.models import cost
from nlnet.models.non_local import NonLocalBlock
from nlnet.models.pairwise import Concatenation, DotProduct, EmbeddedGaussian, Gaussian, Pairwise
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


BASE = {"c2d_r50": 24.328, "i3d_r50": 28.043, "c2d_r101": 43.320, "i3d_r101": 51.754}
STAGE_CHANNELS = {"res2": 256, "res3": 512, "res4": 1024, "res5": 2048}
BLOCKS = {
    "one_res4": {"c2d_r50": {"res4": 1}, "c2d_r101": {"res4": 1}},
    "five": {"c2d_r50": {"res3": 2, "res4": 3}, "c2d_r101": {"res3": 2, "res4": 3}},
    "ten": {"c2d_r50": {"res3": 4, "res4": 6}, "c2d_r101": {"res3": 4, "res4": 6}},
}


@pytest.mark.parametrize("network", BASE)
@pytest.mark.parametrize("placement", BLOCKS)
def test_parameters_of_every_network_and_placement(network: str, placement: str) -> None:
    """A block has four convolutions between C and C/2 channels with biases, and a batch norm of two vectors."""
    millions = BASE[network]
    for stage, number in BLOCKS[placement][network.replace("i3d", "c2d")].items():
        channels = STAGE_CHANNELS[stage]
        millions += number * (4 * channels * channels // 2 + 3 * channels // 2 + channels + 2 * channels) / 1e6
    counted = cost.parameters(configured(f"model={network}", f"model/placement={placement}")) / 1e6
    assert counted == pytest.approx(millions, abs=0.0006)  # three decimals of the base


def test_ratios_of_table_2e_and_of_the_text() -> None:
    c2d, c2d_r50_nl5 = count_32("model=c2d_r101"), count_32("model/placement=five")
    for overrides, parameters, macs in [
        (("model=i3d_r101", "model.inflation=3x3x3"), 1.455, 1.763),  # the paper: 1.5, 1.8
        (("model=i3d_r101",), 1.195, 1.464),  # 1.2, 1.5
        (("model=c2d_r101", "model/placement=five"), 1.170, 1.232),  # 1.2, 1.2
    ]:
        counted = count_32(*overrides)
        assert counted[0] / c2d[0] == pytest.approx(parameters, abs=0.001)
        assert counted[1] / c2d[1] == pytest.approx(macs, abs=0.001)
    # "only 70% parameters and 80% FLOPs of the deeper ResNet-101 baseline" (section 5.1)
    assert c2d_r50_nl5[0] / c2d[0] == pytest.approx(0.731, abs=0.001)
    assert c2d_r50_nl5[1] / c2d[1] == pytest.approx(0.808, abs=0.001)


LONG = ["model=i3d_r50", "model/placement=five", "model.non_local.output.norm=false"]


@pytest.mark.parametrize(
    ("overrides", "clip", "millions", "giga"),
    [
        (["model/strides=authors_32"], (32, 256, 256), 24.328, 26.46),
        ([], (8, 256, 256), 24.328, 25.23),
        (["model/placement=five", "model/strides=authors_32"], (32, 256, 256), 31.686, 38.27),
        (["model/placement=five"], (8, 256, 256), 31.686, 37.04),
        (["model=i3d_r50"], (8, 256, 256), 28.043, 36.76),
        (["model=i3d_r50", "model/placement=five", "model/strides=authors_32"], (32, 256, 256), 35.402, 54.74),
        (["model=i3d_r50", "model/placement=five"], (8, 256, 256), 35.402, 48.57),
        (["model=i3d_r50", "model/strides=authors_32"], (128, 224, 224), 28.043, 131.3),
        (["model=i3d_r50"], (32, 224, 224), 28.043, 112.4),
        ([*LONG, "model/strides=authors_32", "model.stages.res3.non_local_groups=4"], (128, 224, 224), 35.394, 169.5),
        ([*LONG, "model.stages.res3.non_local_groups=4"], (32, 224, 224), 35.394, 150.6),
        # MMAction2's I3D as it publishes it, 43.5 and 59.3 and 56.5 G (W_z has no bias there).
        (["model=i3d_r50", "compat=mmaction2"], (32, 256, 256), 28.043, 43.5),
        (["model=i3d_r50", "compat=mmaction2", "model/placement=five"], (32, 256, 256), 35.398, 59.3),
        (
            ["model=i3d_r50", "compat=mmaction2", "model/placement=five", "model/non_local=gaussian"],
            (32, 256, 256),
            31.724,
            56.5,
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_sizes_and_lengths(
    overrides: list[str], clip: tuple[int, int, int], millions: float, giga: float
) -> None:
    model = configured(*overrides)
    assert cost.parameters(model) / 1e6 == pytest.approx(millions, abs=0.0006)
    assert cost.multiply_adds(model, clip) / 1e9 == pytest.approx(giga, rel=0.01)


@pytest.mark.parametrize(("crop", "giga"), [(224, 3.08), (256, 4.03)])
def test_pooling_behind_the_projections_costs_more(crop: int, giga: float) -> None:
    first, last = (
        cost.multiply_adds(configured("model/placement=five", f"model.non_local.subsample={where}"), (8, crop, crop))
        for where in ("first", "last")
    )
    assert (last - first) / 1e9 == pytest.approx(giga, rel=0.01)


@pytest.mark.parametrize(
    ("overrides", "clip", "mebibytes"),
    [
        (["model/placement=one_res3"], (8, 224, 224), 9.4),
        (["model/placement=one_res4"], (8, 224, 224), 0.59),
        (["model/placement=one_res3"], (8, 256, 256), 16),
        (["model/placement=one_res4"], (8, 256, 256), 1),
        (["model/placement=one_res2", "model/strides=authors_32"], (32, 224, 224), 538),
        (["model/placement=one_res3"], (32, 224, 224), 150),
        (["model/placement=one_res3", "model.stages.res3.non_local_groups=4"], (32, 224, 224), 37.5),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_attention_matrices(overrides: list[str], clip: tuple[int, int, int], mebibytes: float) -> None:
    (block,) = [part for part in cost.parts(configured(*overrides), clip) if ".nl" in part.name]
    assert block.attention / 2**20 == pytest.approx(mebibytes, rel=0.01)


def test_parts_sum_to_the_network() -> None:
    model = configured("model=i3d_r50", "model/placement=five")
    parts = cost.parts(model, (8, 224, 224))
    assert [part.name for part in parts] == [
        *("stem", "res2", "res3", "res3.nl1", "res3.nl3", "res4", "res4.nl1", "res4.nl3", "res4.nl5", "res5", "head")
    ]
    assert sum(part.parameters for part in parts) == cost.parameters(model)
    assert sum(part.multiply_adds for part in parts) == cost.multiply_adds(model, (8, 224, 224))
    assert [part.output for part in parts if part.name in ("stem", "res5", "head")] == [
        (64, 8, 55, 55),
        (2048, 4, 7, 7),
        (400,),
    ]


@pytest.mark.parametrize("form", [Gaussian, EmbeddedGaussian, DotProduct, Concatenation])
def test_activations_are_what_autograd_keeps(make_network: Callable[..., VideoResNet], form: type[Pairwise]) -> None:
    """Counted without numbers, against the real thing: storages held by the graph of a real forward pass."""
    model = make_network(11, placement={11: {"res3": [0]}}, non_local=partial(NonLocalBlock, pairwise=form))
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    kept: dict[int, torch.Tensor] = {}
    parameters = {parameter.data_ptr() for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(torch.rand(1, 3, 4, 32, 32).to(memory_format=torch.channels_last_3d))
    counted = sum(kept[key].untyped_storage().nbytes() for key in kept if key not in parameters)
    assert cost.activations(model, (4, 32, 32)) == pytest.approx(counted, rel=0.02)


def test_activations_where_one_position_is_left(make_network: Callable[..., VideoResNet]) -> None:
    """Batch norm refuses to train on a single one."""
    model = make_network(11)
    assert 0 < cost.activations(model, (1, 16, 16)) < cost.activations(model, (2, 16, 16))
    with pytest.raises(ValueError, match="more than 1 value"):
        model.train()(torch.rand(1, 3, 1, 16, 16))


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
