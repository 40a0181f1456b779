"""Presets: each difference of the paper, its code and the other implementations, in the network that is built."""

from typing import Any

import pytest
import torch
from torch import nn

from nlnet.config.compose import build, check, compose, group_options
from nlnet.config.models import build_model
from nlnet.models.non_local import NonLocalBlock
from nlnet.models.pairwise import EmbeddedGaussian
from nlnet.models.resnet import VideoResNet

GREY = ([0.45] * 3, [0.225] * 3)
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

# The stem's stride in time, pool1 (kernel, stride, padding), pool2 (kernel, stride, padding in time); of a block: where
# it pools, the scale of its softmax for 512 embedding channels, whether W_z has a bias, deviation of the initial g
# (He for 1024 -> 512 channels, fan out: (2/512)^0.5), initial scale of its batch norm; clip; normalisation.
CODE_SCALE, HE = 512**-0.5, (2 / 512) ** 0.5
PRESETS: dict[str, tuple[Any, ...]] = {
    "none": (1, (1, 3, 3), (1, 2, 2), (0, 0, 0), (2, 2, 0), "first", CODE_SCALE, True, 0.01, 0.0, (8, 8), GREY),
    "paper": (2, (3, 3, 3), (2, 2, 2), (1, 1, 1), (3, 2, 1), "last", 1.0, True, HE, 0.0, (32, 2), GREY),
    "authors": (1, (1, 3, 3), (1, 2, 2), (0, 0, 0), (2, 2, 0), "first", CODE_SCALE, True, 0.01, 0.0, (8, 8), GREY),
    "authors_32f": (2, (2, 3, 3), (2, 2, 2), (0, 0, 0), (2, 2, 0), "first", CODE_SCALE, True, 0.01, 0.0, (32, 2), GREY),
    "slowfast": (1, (1, 3, 3), (1, 2, 2), (0, 1, 1), (2, 2, 0), "first", CODE_SCALE, True, HE, 0.0, (8, 8), GREY),
    "pytorchvideo": (1, (1, 3, 3), (1, 2, 2), (0, 1, 1), (2, 2, 0), "first", CODE_SCALE, True, HE, 1.0, (8, 8), GREY),
    "mmaction2": (2, (1, 3, 3), (2, 2, 2), (0, 1, 1), (2, 2, 0), "last", 1.0, False, 0.01, 0.0, (32, 2), IMAGENET),
    "mmaction2_c2d": (1, (1, 3, 3), (1, 2, 2), (0, 0, 0), (2, 2, 0), "last", 1.0, False, 0.01, 0.0, (8, 8), IMAGENET),
}


def built(*overrides: str) -> tuple[VideoResNet, Any]:
    config = compose("train", ["data.root=x", "model/init=scratch", *overrides])
    check(config)
    with torch.device("meta"):
        model, _ = build_model(config.model, num_classes=400)
    assert isinstance(model, VideoResNet)
    return model, config


def test_every_preset_has_a_line() -> None:
    assert set(group_options("compat")) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("form", ["embedded_gaussian", "gaussian", "dot_product", "concatenation"])
def test_presets(preset: str, form: str) -> None:
    model, config = built(f"compat={preset}", "model/placement=one_res4", f"model/non_local={form}", "model=i3d_r50")
    stride, kernel, step, padding, pool2, where, scale, bias, std, gamma, clip, normalize = PRESETS[preset]
    conv, pool = model.stem.conv, model.stem.pool
    assert isinstance(conv, nn.Conv3d)
    assert isinstance(pool, nn.MaxPool3d)
    assert conv.kernel_size == (5, 7, 7)
    assert conv.stride == (stride, 2, 2)
    assert (pool.kernel_size, pool.stride, pool.padding) == (kernel, step, padding)
    second = model.get_submodule("res2.pool")
    assert isinstance(second, nn.MaxPool3d)
    assert (second.kernel_size, second.stride, second.padding) == tuple(
        (value, rest, rest) for value, rest in zip(pool2, (1, 1, 0), strict=True)
    )
    block = model.get_submodule("res4.nl4")
    assert isinstance(block, NonLocalBlock)
    assert block.subsample == where
    assert (block.out.bias is not None) == bias
    if isinstance(block.pairwise, EmbeddedGaussian):
        assert block.pairwise.scale == pytest.approx(scale)
    assert (config.data.clip.frames, config.data.clip.stride) == clip
    normalise = build(config.data.normalize)
    assert (list(normalise.mean), list(normalise.std)) == normalize
    assert config.compat.name == preset

    torch.manual_seed(0)
    block = build(config.model.non_local)(1024)
    assert torch.allclose(block.bn.weight, torch.tensor(gamma))
    assert block.g.weight.std().item() == pytest.approx(std, rel=0.02)
    for projection in (block.g, block.out, *block.pairwise.children()):
        if isinstance(projection, nn.Linear) and projection.bias is not None:
            assert not projection.bias.any()


def test_presets_test_by_their_own_protocol() -> None:
    names = {preset: build(built(f"compat={preset}")[1].data.views).name for preset in PRESETS}
    assert names == {
        "paper": "10xfull",
        "none": "10x3",
        "authors": "authors_10x3",
        "authors_32f": "authors_10x3",
        "slowfast": "slowfast_10x3",
        "pytorchvideo": "pytorchvideo_10x3",
        "mmaction2": "mmaction2_10x3",
        "mmaction2_c2d": "mmaction2_c2d_10x3",
    }
    assert build(built("compat=slowfast", "data/views=1x1")[1].data.views).name == "1x1"
    assert built("compat=slowfast")[1].data.augment.placement.frames_per_second == 30


def test_a_plain_run_is_the_authors_8_frame_network() -> None:
    assert compose("train", ["data.root=x"]).model == compose("train", ["data.root=x", "compat=authors"]).model


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("experiment", ["i3d_nl5_r50_8x8", "i3d_nl5_r50_32x2", "paper_i3d_nl5_r50"])
def test_a_preset_given_on_the_command_line_wins_over_the_experiment(preset: str, experiment: str) -> None:
    model, config = built(f"experiment={experiment}", f"compat={preset}")
    expected, wanted = built("model=i3d_r50", "model/placement=five", f"compat={preset}")
    assert str(model) == str(expected)
    assert config.data == wanted.data
    assert config.model == wanted.model


@pytest.mark.parametrize(
    ("preset", "outputs"),
    # Sizes behind the stem, res2 with pool2, res3, res4 and res5 at 224 pixels (paper, table 1; the authors' code).
    [
        ("paper", [(8, 56), (4, 56), (4, 28), (4, 14), (4, 7)]),
        ("none", [(8, 55), (4, 55), (4, 28), (4, 14), (4, 7)]),
        ("authors", [(8, 55), (4, 55), (4, 28), (4, 14), (4, 7)]),
        ("authors_32f", [(8, 55), (4, 55), (4, 28), (4, 14), (4, 7)]),
        ("slowfast", [(8, 56), (4, 56), (4, 28), (4, 14), (4, 7)]),
        ("pytorchvideo", [(8, 56), (4, 56), (4, 28), (4, 14), (4, 7)]),
        ("mmaction2", [(8, 56), (4, 56), (4, 28), (4, 14), (4, 7)]),
        ("mmaction2_c2d", [(8, 55), (4, 55), (4, 28), (4, 14), (4, 7)]),
    ],
)
def test_sizes_through_the_network(preset: str, outputs: list[tuple[int, int]]) -> None:
    model, config = built(f"compat={preset}")
    x = torch.empty(1, 3, config.data.clip.frames, 224, 224, device="meta")
    sizes = []
    for name in ("stem", "res2", "res3", "res4", "res5"):
        x = model.get_submodule(name)(x)
        assert x.shape[3] == x.shape[4]
        sizes.append((x.shape[2], x.shape[3]))
    assert sizes == outputs
